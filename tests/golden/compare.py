"""Outputs as JSON, and where two of them differ."""

import base64
import io
import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from tests.golden.subject import Output, Tolerance

DIGITS = 7


def png(pixels: np.ndarray) -> Output:
    """A picture, uint8 [h, w, 3]; its pixels are compared, not its bytes."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return {"png": base64.b64encode(buffer.getvalue()).decode()}


def numbers(values: Any) -> Output:
    """Numbers of any shape, as nested lists of as many digits as a comparison looks at."""
    return plain(np.asarray(values).tolist())


def plain(value: Any) -> Output:
    """Values as JSON has them."""
    if isinstance(value, dict):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else str(value)
    return value


def dump(output: Output) -> str:
    """One line of JSON."""
    return json.dumps(output, sort_keys=True, ensure_ascii=False, allow_nan=False)


def difference(stored: Output, found: Output, tolerance: Tolerance) -> str:
    """The first place where two outputs differ, and how; empty where they agree."""
    return next(_differences(stored, found, tolerance, ""), "")


def _differences(stored: Output, found: Output, tolerance: Tolerance, where: str) -> Iterator[str]:
    if isinstance(stored, dict) and isinstance(found, dict):
        if set(stored) == set(found) == {"png"}:
            yield from _of_pictures(_pixels(stored), _pixels(found), tolerance.levels, where)
            return
        for key in sorted(stored.keys() | found.keys()):
            if key not in stored or key not in found:
                yield f"{where}.{key} is {'new' if key in found else 'gone'}"
            else:
                yield from _differences(stored[key], found[key], tolerance, f"{where}.{key}")
    elif isinstance(stored, list) and isinstance(found, list):
        if len(stored) != len(found):
            yield f"{where} has {len(found)} items in place of {len(stored)}"
        for place, pair in enumerate(zip(stored, found, strict=False)):
            yield from _differences(*pair, tolerance, f"{where}[{place}]")
    elif not _equal(stored, found, tolerance):
        yield f"{where or 'the output'} is {str(found)[:80]!r} in place of {str(stored)[:80]!r}"


def _equal(stored: Output, found: Output, tolerance: Tolerance) -> bool:
    if type(stored) is type(found) is float or {type(stored), type(found)} == {int, float}:
        return math.isclose(stored, found, rel_tol=tolerance.relative, abs_tol=tolerance.absolute)
    return type(stored) is type(found) and stored == found


def _of_pictures(stored: np.ndarray, found: np.ndarray, levels: int, where: str) -> Iterator[str]:
    if stored.shape != found.shape:
        yield f"{where} is a picture of {found.shape} in place of {stored.shape}"
        return
    apart = np.abs(stored.astype(int) - found.astype(int)).max(axis=2)
    if apart.max() > levels:
        yield f"{where}: {(apart > levels).mean():.1%} of its pixels differ, by up to {apart.max()} levels"


def _pixels(output: Output) -> np.ndarray:
    with Image.open(io.BytesIO(base64.b64decode(output["png"]))) as image:
        return np.asarray(image.convert("RGB"))
