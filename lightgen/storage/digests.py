"""Row digests and the content fingerprint of a version.

A row's digest is sha256 over the names and types of its columns, its values, and the sha256 of each of its blobs. The
fingerprint is sha256 over the sorted row digests: it does not depend on shards, order, workers or resume.
"""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions when it is imported, where pyright does not see them.

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from lightgen.seeds import sha256_of_each
from schemas.canonical import canonical_json

DIGESTS = pa.schema(
    [pa.field("key", pa.string(), nullable=False), pa.field("digest", pa.binary(32), nullable=False)],
)
BLOCK_BYTES = 16 << 20  # of rows that are laid out for hashing at once


def row_digests(table: pa.Table, blobs: Sequence[Mapping[str, bytes]] | None = None) -> list[bytes]:
    """Digest of each row, in table order; `blobs` maps extension -> sha256 (32 bytes) for each row.

    Memory: a copy of BLOCK_BYTES of rows, or of the largest row.
    """
    table = table.select(sorted(table.column_names))
    head = canonical_json([[field.name, str(field.type)] for field in table.schema]) + b"\0"
    rows = max(1, table.num_rows * BLOCK_BYTES // max(table.nbytes, 1))
    digests: list[bytes] = []
    for first in range(0, table.num_rows, rows):
        block = table.slice(first, rows)
        parts = [pa.scalar(head, pa.large_binary()), *_parts(block)]
        if blobs is not None:
            parts.append(pa.array(map(_blob_lines, blobs[first : first + rows]), pa.large_binary()))
        digests += sha256_of_each(pc.binary_join_element_wise(*parts, pa.scalar(b"", pa.large_binary())))
    return digests


def fingerprint(digests: Iterable[bytes]) -> str:
    """Digest of the sorted digests."""
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()


def _parts(table: pa.Table) -> Iterator[pa.LargeBinaryArray]:
    """What of each row is hashed, to be joined: narrow numbers first, then the cells of every other column."""
    wide: list[pa.Array] = []
    for column in table.columns:
        array = pa.concat_arrays(column.chunks)
        if pt.is_boolean(array.type) or pt.is_integer(array.type) or pt.is_floating(array.type):
            yield _even(_numbers(array))
        else:
            wide.append(_cells(array))
    for cells in wide:
        lengths = pc.fill_null(pc.binary_length(cells), 0).to_numpy(zero_copy_only=False).astype("<i8")
        marks = np.concatenate([np.ones((len(cells), 1), np.uint8), lengths.view(np.uint8).reshape(-1, 8)], axis=1)
        yield pc.if_else(cells.is_valid(), _even(marks), pa.scalar(b"\0", pa.large_binary()))
        yield pc.fill_null(cells, b"") if cells.null_count else cells


def _even(rows: np.ndarray) -> pa.LargeBinaryArray:
    """Each row of a matrix of bytes as a value."""
    offsets = np.arange(len(rows) + 1, dtype=np.int64) * rows.shape[1]
    return pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), len(rows), [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(rows))]
    )


def _blob_lines(digests: Mapping[str, bytes]) -> bytes:
    return b"".join(extension.encode() + b"\0" + digests[extension] for extension in sorted(digests))


def _numbers(array: pa.Array) -> np.ndarray:
    """[rows, 1 + width] bytes: valid or not, then the little-endian value (zero where null)."""
    valid = np.asarray(array.is_valid().to_numpy(zero_copy_only=False), np.uint8)[:, None]
    values = array.fill_null(False if pt.is_boolean(array.type) else 0).to_numpy(zero_copy_only=False)
    values = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    return np.concatenate([valid, values.view(np.uint8).reshape(len(array), -1)], axis=1)


def _cells(array: pa.Array) -> pa.LargeBinaryArray:
    """The bytes of each value, null where it is; those of a nested one are its JSON."""
    kind = array.type
    if pt.is_fixed_size_binary(kind) or pt.is_string(kind) or pt.is_binary(kind):
        return array.cast(pa.large_binary())
    if pt.is_large_string(kind) or pt.is_large_binary(kind):
        return array.view(pa.large_binary())
    values = (None if value is None else canonical_json(value) for value in array.to_pylist())
    return pa.array(values, pa.large_binary())
