"""Row digests and the content fingerprint of a version.

A row's digest is sha256 over the names and types of its columns, its values, and the sha256 of each of its blobs. The
fingerprint is sha256 over the sorted row digests: it does not depend on shards, order, workers or resume.
"""

import hashlib
import itertools
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.types as pt

from schemas.canonical import canonical_json

DIGESTS = pa.schema(
    [pa.field("key", pa.string(), nullable=False), pa.field("digest", pa.binary(32), nullable=False)],
)
Cell = bytes | memoryview


def row_digests(table: pa.Table, blobs: Sequence[Mapping[str, bytes]] | None = None) -> list[bytes]:
    """Digest of each row, in table order; `blobs` maps extension -> sha256 (32 bytes) for each row."""
    columns = sorted(table.column_names)
    if not table.num_rows:
        return []
    head = canonical_json([[name, str(table.schema.field(name).type)] for name in columns]) + b"\0"
    fixed, variable = _split(table, columns)
    width = len(fixed) // table.num_rows
    digests = []
    for row in range(table.num_rows):
        parts: list[Cell] = [head, fixed[row * width : (row + 1) * width]]
        for cells in variable:
            cell = cells[row]
            parts.append(b"\0" if cell is None else b"\1" + len(cell).to_bytes(8, "little"))
            parts.append(cell or b"")
        if blobs is not None:
            parts.extend(extension.encode() + b"\0" + blobs[row][extension] for extension in sorted(blobs[row]))
        digests.append(hashlib.sha256(b"".join(parts)).digest())
    return digests


def fingerprint(digests: Iterable[bytes]) -> str:
    """Digest of the sorted digests."""
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()


def _split(table: pa.Table, columns: list[str]) -> tuple[bytes, list[list[Cell | None]]]:
    """Narrow numbers of all rows as one block of equal rows, and the cells of every other column."""
    blocks, variable = [], []
    for name in columns:
        array = pa.concat_arrays(table.column(name).chunks)
        if pt.is_boolean(array.type) or pt.is_integer(array.type) or pt.is_floating(array.type):
            blocks.append(_numbers(array))
        else:
            variable.append(_cells(array))
    return (np.concatenate(blocks, axis=1).tobytes() if blocks else b""), variable


def _numbers(array: pa.Array) -> np.ndarray:
    """[rows, 1 + width] bytes: valid or not, then the little-endian value (zero where null)."""
    valid = np.asarray(array.is_valid().to_numpy(zero_copy_only=False), np.uint8)[:, None]
    values = array.fill_null(False if pt.is_boolean(array.type) else 0).to_numpy(zero_copy_only=False)
    values = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    return np.concatenate([valid, values.view(np.uint8).reshape(len(array), -1)], axis=1)


def _cells(array: pa.Array) -> list[Cell | None]:
    """One bytes-like value a row, None where null; strings and binaries are views, never copies."""
    kind = array.type
    if pt.is_fixed_size_binary(kind):
        bounds = (array.offset + np.arange(len(array) + 1)) * kind.byte_width
        data = array.buffers()[1]
    elif pt.is_string(kind) or pt.is_binary(kind) or pt.is_large_string(kind) or pt.is_large_binary(kind):
        wide = pt.is_large_string(kind) or pt.is_large_binary(kind)
        _, offsets, data = array.buffers()
        bounds = np.frombuffer(offsets, np.int64 if wide else np.int32)[array.offset : array.offset + len(array) + 1]
    else:
        return [None if value is None else canonical_json(value) for value in array.to_pylist()]
    view = memoryview(data if data is not None else b"")
    ends = bounds.tolist()
    cells: list[Cell | None] = [view[start:end] for start, end in itertools.pairwise(ends)]
    if array.null_count:
        cells = [cell if valid else None for cell, valid in zip(cells, array.is_valid().to_pylist(), strict=True)]
    return cells
