"""Many JSON values in one call."""

import gc
import json
from typing import Any


def json_values(text: bytes | memoryview) -> list[Any]:
    """The values that stand in `text` with commas between them. Raises ValueError, RecursionError.

    The collector of cycles rests meanwhile. JSON has no cycles, and the collector would look at all values that are
    there already, again and again: of small nested objects that takes as long as the parsing.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        return json.loads(b"".join((b"[", text, b"]")))
    finally:
        if collects:
            gc.enable()
