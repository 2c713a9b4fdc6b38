"""The columns of link tables under one name each, whatever a release calls and types them.

Text stays bytes until it is cleaned. Sizes and scores are float64, null where a file has none, NaN or no column. Hashes
are written out as whole numbers: float64 has not the digits for them.
"""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions when it is imported, where pyright does not see them.

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lightgen.corpora.columns import inner, is_list, is_text
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
WRITTEN = r"^\s*-?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*$"


def columns_of(names: Sequence[str], caption: str | None) -> dict[str, str]:
    """Column of a file by ours; `caption` names the column of captions, else it is found as the others are."""
    there = {name.lower(): name for name in reversed(names)}
    found = {ours: next((there[one] for one in theirs if one in there), "") for ours, theirs in NAMES.items()}
    if caption is not None:
        found["caption"] = there.get(caption.lower(), "")
    return {ours: theirs for ours, theirs in found.items() if theirs}


def renamed(batches: Iterable[pa.RecordBatch], columns: Mapping[str, str]) -> Iterator[pa.RecordBatch]:
    """The batches with the columns of RAW."""
    for batch in batches:
        yield pa.record_batch([_column(batch, columns.get(field.name), field) for field in RAW], schema=RAW)


def _column(batch: pa.RecordBatch, name: str | None, field: pa.Field) -> pa.Array:
    if name is None:
        return pa.nulls(batch.num_rows, field.type)
    values = _plain(inner(batch.column(name), [name]))
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
