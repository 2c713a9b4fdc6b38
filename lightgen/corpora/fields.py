"""Finds the field of the captions in records and tables, and what of its value is a caption.

A name may be a path: `Task2.Caption` is the field `Caption` of the object `Task2`, or of each object of a list.
A field of that very name comes first, and case and white space around it do not matter where only one name fits then.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Int64

from lightgen.corpora.raw import NOT_TEXT, binary

MOST_CAPTIONS = 1 << 12  # of one record
SHOWN = 500  # characters of a record that is refused
MOST_NAMES, MOST_SIGNS = 30, 60  # of columns in a message, and characters of one
Value = Any
Found = list[bytes] | tuple[str, str] | None
"""Captions of a record; a reason and a detail why there are none; or None where it is null or missing."""


def same_name(names: Iterable[str], wanted: str) -> str | None:
    """The name that is meant: the very same, else the only one that differs in case and in white space around it."""
    names = list(names)
    if wanted in names:
        return wanted
    alike = [name for name in names if name.strip().casefold() == wanted.strip().casefold()]
    return alike[0] if len(alike) == 1 else None


def value_of(record: dict[str, Any], field: str) -> tuple[bool, Value]:
    """Whether a record has the field, and its value."""
    if field in record:
        return True, record[field]
    name, rest = _way((*record,), field)
    if name is None:
        return False, None
    if not rest:
        return True, record[name]
    inner = record[name]
    if isinstance(inner, list) and inner and all(isinstance(one, dict) for one in inner):
        found = [value_of(one, rest) for one in inner]
        return any(there for there, _ in found), [value for _, value in found]
    return value_of(inner, rest) if isinstance(inner, dict) else (False, None)


@lru_cache(64)
def _way(names: tuple[str, ...], field: str) -> tuple[str | None, str]:
    """The name of the field among those of a record, or of what it is in, and how it is called there."""
    name = same_name(names, field)
    head, dot, rest = field.partition(".")
    return (name, "") if name is not None or not dot else (same_name(names, head), rest)


def captions_of(value: Value) -> Found:
    """The captions in the value of a field: a text is one, a list of texts as many. Nothing else is made a text."""
    if isinstance(value, str):
        return [as_bytes(value)]
    if value is None or value != value:  # NaN is how pandas writes a text that is not there
        return None
    if isinstance(value, list):
        return _of_list(value)
    return NOT_TEXT, f"{_kind(value)}, not text"


def as_bytes(text: str) -> bytes:
    """The bytes that a text was read of; surrogates, which are no UTF-8, are left for the cleaner to find."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def _of_list(values: list[Value]) -> Found:
    texts = [text for text in values if text is not None]
    odd = next((text for text in texts if not isinstance(text, str)), None)
    if odd is not None:
        return NOT_TEXT, f"a list of {_kind(odd)}, not of texts"
    if len(texts) > MOST_CAPTIONS:
        return NOT_TEXT, f"a list of {len(texts)} texts, at most {MOST_CAPTIONS}"
    return [as_bytes(text) for text in texts] or None


def _kind(value: Value) -> str:
    names = {bool: "true or false", int: "a number", float: "a number", dict: "an object", list: "a list"}
    return names.get(type(value), type(value).__name__)


def gathered(
    found: Sequence[Found], rows: Int64[np.ndarray, " n"], shown: Callable[[int], bytes]
) -> tuple[pa.LargeBinaryArray, np.ndarray, np.ndarray, dict[int, tuple[str, str]]]:
    """Texts, rows, parts and refusals of a batch of records; `shown` gives what is kept of a record that is refused."""
    texts, counts, parts, refused = list[bytes | None](), list[int](), list[int](), dict[int, tuple[str, str]]()
    for at, captions in enumerate(found):
        if isinstance(captions, tuple):
            refused[len(texts)] = captions
            captions = [shown(at)[:SHOWN]]
        of_record: Sequence[bytes | None] = captions or [None]
        texts += of_record
        counts.append(len(of_record))
        parts += range(len(of_record))
    return binary(texts), np.repeat(rows, np.asarray(counts, np.int64)), np.asarray(parts, np.int64), refused


def missing_field(path: str, field: str, names: Iterable[str], setting: str = "field") -> str:
    """What to say where no record has the field, in plain ASCII whatever the names are."""
    return f"{path} has no {setting} {field!a}; it has {listed(names)}: set `{setting}`"


def listed(names: Iterable[str]) -> str:
    """Names for a message, in plain ASCII whatever they are, and not too many of them, nor too long."""
    known = [ascii(name)[1:-1] for name in map(str, names)]
    shown = [name if len(name) <= MOST_SIGNS else f"{name[:MOST_SIGNS]}..." for name in known[:MOST_NAMES]]
    more = [f"and {len(known) - MOST_NAMES:,} more"] if len(known) > MOST_NAMES else []
    return ", ".join([*shown, *more]) or "none"
