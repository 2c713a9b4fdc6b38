"""Reads the one JSON object in what a model wrote: tolerant of what stands around it, strict about what it says.

A fence, a sentence before or after, an end mark, a comma before the end and a brace too many are overlooked. No object,
one that is cut off, two of them, and one key twice are refused.
"""

import json
import re
from collections.abc import Collection
from typing import Any

from schemas.scores import Unscored

LONGEST = 4096  # characters of an answer that are read, and kept
DETAIL = 300
COMMA = re.compile(r",(?=\s*[}\]])")
OUT_OF = re.compile(r"\s*(-?\d+(?:\.\d+)?)\s*(?:(?:/|out of)\s*(\d+))?\s*")


def one_object(raw: str) -> dict[str, Any] | Unscored:
    """The object, or why there is not exactly one."""
    start = raw.find("{")
    if start < 0 or len(raw) > LONGEST or raw[:start].rstrip().endswith("["):
        return Unscored("vlm_unparsable", raw[:DETAIL])
    # Only outside of texts: a comma before a brace inside of one stays.
    text = _without_last_commas(raw[start:])
    try:
        found, end = json.JSONDecoder(object_pairs_hook=_no_twins, parse_constant=_refuse).raw_decode(text)
    except KeyError:
        return Unscored("vlm_key_twice", raw[:DETAIL])
    except (ValueError, RecursionError):
        return Unscored("vlm_unparsable", raw[:DETAIL])
    if "{" in text[end:]:
        return Unscored("vlm_two_objects", raw[:DETAIL])
    return found


def marks(raw: str, names: Collection[str], best: int) -> dict[str, int] | Unscored:
    """Whole numbers from 0 to `best` for all names, in whatever capitals; a text beside them is a remark."""
    found = one_object(raw)
    if isinstance(found, Unscored):
        return found
    named = {key.strip().casefold(): value for key, value in found.items()}
    if len(named) != len(found):
        return Unscored("vlm_key_twice", raw[:DETAIL])
    missing = [name for name in names if name not in named]
    if missing:
        return Unscored("vlm_key_missing", f"{', '.join(missing)}: {raw}"[:DETAIL])
    beyond = [key for key, value in named.items() if key not in names and not isinstance(value, str)]
    if beyond:
        return Unscored("vlm_key_unknown", f"{', '.join(beyond)}: {raw}"[:DETAIL])
    given = {name: _mark(named[name], best) for name in names}
    for name, mark in given.items():
        if isinstance(mark, str):
            return Unscored(mark, f"{name}: {str(named[name])[:80]}")
    return {name: mark for name, mark in given.items() if isinstance(mark, int)}


def _mark(value: Any, best: int) -> int | str:
    """The mark, or the reason why it is none: 7, 7.0, "7" and "7/10" are 7."""
    if isinstance(value, str):
        match = OUT_OF.fullmatch(value[:40])
        if match is None:
            return "vlm_no_number"
        if match[2] is not None and int(match[2]) != best:
            return "vlm_other_scale"
        value = float(match[1])
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "vlm_no_number"
    if not 0 <= value <= best:
        return "vlm_out_of_range"
    return int(value) if value == int(value) else "vlm_not_whole"


def _without_last_commas(text: str) -> str:
    parts = re.split(r'("(?:[^"\\]|\\.)*")', text)
    return "".join(part if part.startswith('"') else COMMA.sub("", part) for part in parts)


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) != len(pairs):
        raise KeyError("a key stands twice")
    return dict(pairs)


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")
