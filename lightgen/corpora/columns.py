"""Captions in columns of Arrow: which column is meant, and its values row by row.

Values are bytes. A list of texts is one value, its texts with \\xfe between; a refusal, in place of one text or of
all, is \\xff, reason and detail. No UTF-8 text holds these bytes, so the values of rows can be cut, digested and
spooled as those of any text column.
"""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions when it is imported, where pyright does not see them.

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int64

from lightgen.corpora.fields import MOST_CAPTIONS, Found, captions_of, same_name
from lightgen.corpora.ranges import offsets, payload

BETWEEN, REFUSED, THEN = b"\xfe", b"\xff", b"\0"
TEXT_TYPES = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_binary_view,
    pa.types.is_null,  # as pandas types a column that holds nothing
)
UNICODE = (pa.string(), pa.large_string())
VIEWS, NARROW = (pa.ListViewArray, pa.LargeListViewArray), (pa.StringArray, pa.BinaryArray)
AT_ONCE = (*UNICODE, pa.binary(), pa.large_binary())  # of texts in lists
NOT_UTF8 = "caption_encoding", "not UTF-8"
Counts = Int64[np.ndarray, " n"]
Batch = tuple[pa.LargeBinaryArray, Int64[np.ndarray, " n"], Int64[np.ndarray, " n"] | None, dict[int, tuple[str, str]]]


def column_named(schema: pa.Schema, wanted: str) -> list[str] | None:
    """The names on the way to a column, which may be a field of a struct: `a.b`. No name that stands twice."""
    once = [name for name in schema.names if schema.names.count(name) == 1]
    name = same_name(once, wanted)
    if name is not None:
        return [name]
    head, dot, rest = wanted.partition(".")
    name = same_name(once, head) if dot else None
    kind = schema.field(name).type if name is not None else None
    if kind is None or not pa.types.is_struct(kind):
        return None
    inner = column_named(pa.schema(list(kind.fields)), rest)
    return inner and [str(name), *inner]


def type_of(schema: pa.Schema, names: list[str]) -> pa.DataType:
    """The type of a column by the names on the way to it; of a dictionary that of its values."""
    kind = schema.field(names[0]).type
    for name in names[1:]:
        kind = kind.field(name).type
    return plain_type(kind)


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type itself; of a dictionary that of its values, and of a view of lists that of lists."""
    if pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind):
        return pa.large_list(kind.value_field)
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def inner(values: pa.Array, names: list[str]) -> pa.Array:
    """The values of a column by the names on the way to it, of which the first is behind; views of lists as lists."""
    for name in names[1:]:
        values = pc.struct_field(values, name)
    return _lists(values) if isinstance(values, VIEWS) else values


def _lists(views: pa.Array) -> pa.LargeListArray:
    """Views of lists as lists. A cast would do, but that of pyarrow 26 loses values."""
    counts = _lengths(views)
    bounds = pa.array(np.append(0, np.cumsum(counts)), pa.int64())
    return pa.LargeListArray.from_arrays(bounds, views.flatten(), mask=views.is_null())


def _lengths(lists: pa.Array) -> Counts:
    """How many values each list has; none if it is null. To fill in nulls takes long where there are none too."""
    lengths = pc.list_value_length(lists)
    return (pc.fill_null(lengths, 0) if lengths.null_count else lengths).to_numpy(False)


def is_text(kind: pa.DataType) -> bool:
    """Whether values of a type are texts."""
    return any(is_one(kind) for is_one in TEXT_TYPES)


def is_list(kind: pa.DataType) -> bool:
    """Whether values of a type are lists."""
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def python_values(values: pa.Array) -> list[Any]:
    """Values as Python has them; bytes of a text that are no UTF-8 become surrogates, as those of JSON do."""
    try:
        return values.to_pylist()
    except UnicodeDecodeError:
        return [_python_value(value) for value in values]


def _python_value(value: pa.Scalar) -> Any:
    try:
        return value.as_py()
    except UnicodeDecodeError:
        if isinstance(value, pa.StructScalar):
            return {name: _python_value(part) for name, part in value.items()}
        if isinstance(value, pa.ListScalar):
            return [_python_value(part) for part in value.values]
        text = value.value if isinstance(value, pa.DictionaryScalar) else value
        return text.as_buffer().to_pybytes().decode("utf-8", "surrogateescape")


def values_of(values: pa.Array, found_in: Callable[[pa.Array], list[Found]]) -> pa.LargeBinaryArray:
    """Values of rows as bytes: see the module. `found_in` is asked about lists and structs."""
    if pa.types.is_dictionary(values.type) or is_text(values.type):
        return as_bytes(values)
    at_once = joined(values) if is_list(values.type) and values.type.value_type in AT_ONCE else None
    return encoded(found_in(values)) if at_once is None else at_once


def as_bytes(values: pa.Array) -> pa.LargeBinaryArray:
    """Texts as bytes, which stay where they are. A cast takes twice as long to widen offsets of 32 bits."""
    if not isinstance(values, NARROW):
        return values.cast(pa.large_binary())
    valid, offsets, data = values.buffers()
    narrow = np.frombuffer(offsets, np.int32) if offsets else np.zeros(1, np.int32)
    wide = narrow[: values.offset + len(values) + 1].astype(np.int64)
    return pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), len(values), [valid, pa.py_buffer(wide), data], values.null_count, values.offset
    )


def encoded(found: list[Found]) -> pa.LargeBinaryArray:
    """What was found in each row as the values of a column."""
    return pa.array([_value(one) for one in found], pa.large_binary())


def lists_of_texts(values: pa.Array) -> list[Found]:
    """The captions in each row of a column of lists, of texts or of bytes."""
    return [captions_of(value and [_text(one) for one in value]) for value in python_values(values)]


def _text(value: Any) -> Any:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value


def joined(values: pa.Array) -> pa.LargeBinaryArray | None:
    """The same of all rows at once, as the values of a column; None where a row gives none but for being empty."""
    found = _in_lists(values)
    if found is None:
        return None
    texts, counts = found
    bounds = pa.array(np.append(0, np.cumsum(counts)), pa.int32())
    one_each = pc.binary_join(pa.ListArray.from_arrays(bounds, texts), pa.scalar(BETWEEN, pa.large_binary()))
    return pc.if_else(pa.array(counts > 0), one_each, pa.scalar(None, pa.large_binary()))


def batch_of_column(column: pa.Array, first: int) -> Batch | None:
    """What `batch_of` makes of the values of a column, for texts, and for lists without joining what it would part.

    None for a column of another kind, and where a list gives none but for being empty.
    """
    if isinstance(column, pa.StringArray):
        return as_bytes(column), np.arange(first, first + len(column)), None, {}
    found = _in_lists(column) if is_list(column.type) and column.type.value_type in AT_ONCE else None
    return None if found is None else _numbered(*found, first)


def batch_of(values: pa.LargeBinaryArray, first: int, plain: bool) -> Batch:
    """Texts, rows, parts and refusals of values of rows from `first`; `plain` ones are texts whatever they hold."""
    if plain or not no_utf8(values):
        return values, np.arange(first, first + len(values)), None, {}
    lists = pc.split_pattern(values, BETWEEN)
    counts = _lengths(lists)
    texts, rows, parts, _ = _numbered(lists.flatten(), counts, first)
    refusing = pc.fill_null(pc.starts_with(texts, REFUSED), False)
    reasons = texts.filter(refusing).to_pylist()
    if reasons:
        texts = pc.if_else(refusing, pa.scalar(b"", pa.large_binary()), texts)
    places = np.flatnonzero(refusing.to_numpy(False)).tolist()
    return texts, rows, parts, dict(zip(places, map(_reason, reasons), strict=True))


def _in_lists(values: pa.Array) -> tuple[pa.LargeBinaryArray, Counts] | None:
    """The texts in a column of lists, one after the other, and how many are in each row; None as in `joined`."""
    counts = _lengths(values)
    texts = values.flatten()
    if texts.null_count:
        there = texts.is_valid().to_numpy(False)
        counts = np.bincount(pc.list_parent_indices(values).to_numpy(False)[there], minlength=len(values))
        texts = texts.drop_null()
    texts = as_bytes(texts)
    return None if counts.max(initial=0) > MOST_CAPTIONS or no_utf8(texts) else (texts, counts)


def _numbered(texts: pa.LargeBinaryArray, counts: Counts, first: int) -> Batch:
    """A batch of texts of which each row has so many: one without any has a null."""
    many, there = np.maximum(counts, 1), counts > 0
    if not there.all():
        held = np.repeat(there, many)
        texts = texts.take(pa.array(np.cumsum(held) - 1, mask=~held))
    starts = np.cumsum(many) - many
    rows = np.repeat(np.arange(first, first + len(counts)), many)
    parts = np.arange(len(rows)) - np.repeat(starts, many)
    return texts, rows, parts, {}


def no_utf8(values: pa.LargeBinaryArray) -> bool:
    """Whether there are bytes which no text of UTF-8 has, but values of lists and refusals do."""
    signs = payload(values)
    return bool(len(signs)) and int(signs.max()) >= BETWEEN[0]


def holding(values: pa.LargeBinaryArray, part: bytes) -> Int64[np.ndarray, " m"]:
    """Places of the values in which `part` stands, one as often as it stands there.

    All bytes are looked at once, which takes a tenth of the time of looking at each value.
    """
    signs, bounds = payload(values), offsets(values) - offsets(values)[0]
    at = np.flatnonzero(signs[: max(len(signs) - len(part) + 1, 0)] == part[0])
    for step, sign in enumerate(part[1:], 1):
        at = at[signs[at + step] == sign]
    inside = np.searchsorted(bounds, at, "right") - 1
    inside = inside[at + len(part) <= bounds[inside + 1]]
    return inside[values.is_valid().to_numpy(False)[inside]] if values.null_count else inside


def _value(found: Found) -> bytes | None:
    if found is None:
        return None
    if isinstance(found, tuple):
        return refusal(found)
    return BETWEEN.join(refusal(NOT_UTF8) if BETWEEN in text or REFUSED in text else text for text in found)


def refusal(why: tuple[str, str]) -> bytes:
    """What stands for a reason and a detail among values."""
    return REFUSED + THEN.join(word.encode("utf-8", "backslashreplace") for word in why)


def _reason(value: bytes) -> tuple[str, str]:
    reason, _, detail = value.removeprefix(REFUSED).partition(THEN)
    return reason.decode(), detail.decode()
