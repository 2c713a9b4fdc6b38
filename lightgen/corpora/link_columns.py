"""The columns of link tables under one name each, whatever a release calls and types them.

Text stays bytes until it is cleaned. Sizes and scores are float64, null where a file has none, NaN or no column. Hashes
are written out as whole numbers: float64 has not the digits for them.
"""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions when it is imported, where pyright does not see them.

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lightgen.corpora.columns import inner, is_list, is_text, plain_type
from lightgen.corpora.ranges import Range, values_digest
from schemas.links import NUMBERS

TEXTS = ("url", "caption", "language", "nsfw", "uid", "sha256", "licence")
RAW = pa.schema(
    [*(pa.field(name, pa.large_binary()) for name in TEXTS), *(pa.field(name, pa.float64()) for name in NUMBERS)]
)
# Lower-case names of the releases, the best first: original sizes are those of the file on the web.
NAMES: dict[str, tuple[str, ...]] = {
    "url": ("url",),
    "caption": ("top_caption", "caption", "text", "txt"),
    "width": ("original_width", "width"),
    "height": ("original_height", "height"),
    "similarity": ("similarity", "clip_l14_similarity_score", "clip_b32_similarity_score"),
    "aesthetic": ("aesthetic", "aesthetic_score"),
    "punsafe": ("punsafe",),
    "pwatermark": ("pwatermark",),
    "language": ("language",),
    "nsfw": ("nsfw",),
    "uid": ("uid", "hash", "sample_id"),
    "sha256": ("sha256", "sha256hash"),
    "licence": ("license", "licence"),
}
PARTITION, HIVE_NULL = re.compile(r"([^=]+)=(.*)"), "__HIVE_DEFAULT_PARTITION__"
WRITTEN = r"^\s*-?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*$"


def columns_of(schema: pa.Schema, caption: str | None) -> dict[str, str]:
    """Column of a file by ours, of a type that can be read; `caption` names that of captions, else it is found too."""
    there = {name.lower(): name for name in reversed(schema.names)}
    wanted = NAMES | ({"caption": (caption.lower(),)} if caption is not None else {})
    named = {ours: [there[one] for one in theirs if one in there] for ours, theirs in wanted.items()}
    fit = {ours: [name for name in names if _is_read(ours, schema, name)] for ours, names in named.items()}
    return {ours: names[0] for ours, names in fit.items() if names}


def unreadable(schema: pa.Schema, ours: str, caption: str | None) -> str:
    """What to say of a column of this name that is there, but of a type that cannot be read; else nothing."""
    theirs = (caption.lower(),) if caption is not None and ours == "caption" else NAMES[ours]
    return next((f"column {one.name!r} is {one.type}, no {ours}" for one in schema if one.name.lower() in theirs), "")


def _is_read(ours: str, schema: pa.Schema, name: str) -> bool:
    """Whether values of the column can be ours. A name that stands twice is said to when it is read."""
    kind = plain_type(schema.field(schema.names.index(name)).type)
    if ours in NUMBERS:
        return is_text(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    while is_list(kind):
        kind = plain_type(kind.value_type)
    return is_text(kind) or pa.types.is_integer(kind)


def partitions_of(path: str) -> dict[str, str | None]:
    """What folders named `key=value` say of all rows of a file, by our names; null as Hive writes it.

    Addresses and captions are no partitions.
    """
    found = (PARTITION.fullmatch(name) for name in path.split("/")[:-1])
    said = {unquote(one[1]).lower(): None if one[2] == HIVE_NULL else unquote(one[2]) for one in found if one}
    of_rows = {ours: theirs for ours, theirs in NAMES.items() if ours not in ("url", "caption")}
    named = {ours: [one for one in theirs if one in said] for ours, theirs in of_rows.items()}
    return {ours: said[names[0]] for ours, names in named.items() if names}


def renamed(
    batches: Iterable[pa.RecordBatch], columns: Mapping[str, str], partitions: Mapping[str, str | None]
) -> Iterator[pa.RecordBatch]:
    """The batches with the columns of RAW; what the file has no column of is the same for all rows, or null."""
    for batch in batches:
        values = [
            batch.column(columns[field.name])
            if field.name in columns
            else pa.array([partitions.get(field.name)] * batch.num_rows, pa.string())
            for field in RAW
        ]
        yield pa.record_batch([*map(_column, values, RAW)], schema=RAW)


def _column(values: pa.Array, field: pa.Field) -> pa.Array:
    values = _plain(inner(values, [field.name]))
    return _text(values) if field.type == pa.large_binary() else _number(values)


def _plain(values: pa.Array) -> pa.Array:
    return values.dictionary_decode() if pa.types.is_dictionary(values.type) else values


def _text(values: pa.Array) -> pa.Array:
    if is_list(values.type):
        return _firsts(_text(_plain(values.flatten())), pc.list_value_length(values))
    if pa.types.is_integer(values.type):
        return values.cast(pa.large_string()).cast(pa.large_binary())
    return values.cast(pa.large_binary()) if is_text(values.type) else _nothing(values)


def _firsts(texts: pa.Array, lengths: pa.Array) -> pa.Array:
    """The first text of each list, of captions the best; null where there is none. `texts` are those of all lists."""
    counts = pc.fill_null(lengths, 0).to_numpy(False)
    return texts.take(pa.array(np.cumsum(counts) - counts, mask=counts == 0))


def _number(values: pa.Array) -> pa.Array:
    if is_text(values.type):
        values = _written(values)
    kind = values.type
    if pa.types.is_decimal(kind):
        values, kind = values.cast(pa.float64()), pa.float64()
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        return pa.nulls(len(values), pa.float64())
    numbers = values.cast(pa.float64(), safe=False)
    return pc.if_else(pc.fill_null(pc.is_finite(numbers), False), numbers, pa.scalar(None, pa.float64()))


def _written(values: pa.Array) -> pa.Array:
    """Numbers that are written out, as tables that went through CSV have them; null where a text is none."""
    texts = values.cast(pa.large_binary())
    texts = pc.if_else(pc.match_substring_regex(texts, WRITTEN), texts, pa.scalar(None, pa.large_binary()))
    return pc.ascii_trim_whitespace(texts.cast(pa.large_string())).cast(pa.float64())


def _nothing(values: pa.Array) -> pa.Array:
    """A hash that went through float64 is lost, and so is what is no text."""
    return pa.nulls(len(values), pa.large_binary())


def cut_rows(batches: Iterable[pa.RecordBatch], rows: int, limit: int | None) -> tuple[Range, ...]:
    """Ranges of `rows` rows each over all batches, or over the first `limit` rows."""
    return tuple(
        Range(table.num_rows, int(pc.sum(pc.binary_length(table["url"])).as_py() or 0), rows_digest(table))
        for table in _regrouped(batches, rows, limit)
    )


def rows_digest(table: pa.Table) -> str:
    """Digest of values and nulls, whatever the buffers they lie in."""
    digest = hashlib.sha256()
    for field in RAW:
        values = pa.concat_arrays([pa.array([], field.type), *table[field.name].chunks])
        if field.type == pa.large_binary():
            digest.update(bytes.fromhex(values_digest(values)))
        else:
            digest.update(np.asarray(values.is_null()).tobytes())
            digest.update(pc.fill_null(values, 0.0).to_numpy(zero_copy_only=False).astype("<f8").tobytes())
    return digest.hexdigest()


def _regrouped(batches: Iterable[pa.RecordBatch], rows: int, limit: int | None) -> Iterator[pa.Table]:
    held: list[pa.RecordBatch] = []
    size, left = 0, limit
    for batch in batches:
        rest = batch if left is None else batch.slice(0, left)
        left = None if left is None else left - rest.num_rows
        while rest.num_rows:
            held.append(rest.slice(0, rows - size))
            size, rest = size + held[-1].num_rows, rest.slice(held[-1].num_rows)
            if size == rows:
                yield pa.Table.from_batches(held)
                held, size = [], 0
        if left == 0:
            break
    if held:
        yield pa.Table.from_batches(held)
