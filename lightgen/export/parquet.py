"""Parquet as the Hugging Face hub takes it: pictures as structs of bytes and path, and `datasets.Features` beside them.

Row groups hold about 32 MB, so that a viewer reads a few rows without the rest. Pages begin where contents say so
(content-defined chunking): a version that repeats most rows of another repeats most of its bytes, and is uploaded in
part. Every page has a checksum.
"""

import json
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pt

from lightgen.export.features import IMAGE, features
from lightgen.export.rows import BATCH_BYTES, BATCH_ROWS, Batch, Picture, Rows, is_bytes
from lightgen.storage.parquet import STAMP

ENDING = "parquet"


def written_schema(rows: Rows) -> pa.Schema:
    """Pictures first, then the columns as they are."""
    pictures = [pa.field(name, IMAGE) for name in rows.pictures]
    kept = {key: value for key, value in (rows.schema.metadata or {}).items() if key != STAMP}
    hub = json.dumps({"info": {"features": features(rows.schema, rows.pictures)}}, ensure_ascii=False)
    return pa.schema([*pictures, *rows.schema], metadata={**kept, b"huggingface": hub.encode()})


def write(batches: Iterable[Batch], rows: Rows, path: Path) -> int:
    """One file of these batches; the bytes that they take in memory. Memory: one row group."""
    schema, written = written_schema(rows), 0
    waiting: list[pa.Table] = []
    with pq.ParquetWriter(
        path,
        schema,
        compression=_compression(schema),  # pyright: ignore[reportArgumentType]
        use_dictionary=[field.name for field in schema if pt.is_string(field.type)],  # pyright: ignore[reportArgumentType]
        write_page_index=True,
        write_page_checksum=True,
        use_content_defined_chunking=True,
    ) as writer:
        for batch in batches:
            table = _table(batch, schema)
            held = sum(one.nbytes for one in waiting) + table.nbytes
            if waiting and (held > BATCH_BYTES or sum(map(len, waiting)) + len(table) > BATCH_ROWS):
                _write_group(writer, waiting)
                waiting = []
            waiting.append(table)
            written += table.nbytes
        if waiting:
            _write_group(writer, waiting)
    return written


def _write_group(writer: pq.ParquetWriter, tables: list[pa.Table]) -> None:
    whole = pa.concat_tables(tables)
    writer.write_table(whole, row_group_size=max(1, len(whole)))


def _table(batch: Batch, schema: pa.Schema) -> pa.Table:
    pictures = [_column(batch.pictures[name]) for name in batch.pictures]
    return pa.Table.from_arrays([*pictures, *batch.table.columns], schema=schema)


def _column(pictures: list[Picture]) -> pa.StructArray:
    files = pa.array([one.data for one in pictures], pa.binary())
    names = pa.array([one.name for one in pictures], pa.string())
    return pa.StructArray.from_arrays([files, names], fields=list(IMAGE))


def _compression(schema: pa.Schema) -> dict[str, str]:
    """Pictures and vectors do not shrink."""
    found = {}
    for field in schema:
        if field.type == IMAGE:
            found |= {f"{field.name}.bytes": "none", f"{field.name}.path": "zstd"}
        else:
            found[field.name] = "none" if is_bytes(field.type) else "zstd"
    return found
