"""A large row group of Parquet, decoded once a machine into a scratch file from which any rows are mapped at once.

A Parquet column is read from its beginning only, so each of the thousand shards of a row group would decode it again.
"""

import os
import uuid
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from lightgen.storage.local import speaking_of_space


def write_spool(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    """Create the file, whole or not at all. Raises StoreFull."""
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    with speaking_of_space(path.parent):
        try:
            with temporary.open("wb") as file:
                with pa.ipc.new_file(file, schema) as writer:
                    for batch in batches:
                        writer.write_batch(batch)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def read_spool(path: Path, first: int, rows: int) -> pa.Table:
    """Rows `first` to `first + rows`, fewer at the end. Raises pa.ArrowInvalid for a file that is damaged."""
    parts: list[pa.RecordBatch] = []
    with pa.memory_map(str(path)) as file:
        reader = pa.ipc.open_file(file)
        for number in range(reader.num_record_batches):
            batch = reader.get_batch(number)
            if first < len(batch) and rows > 0:
                parts.append(batch.slice(max(first, 0), rows))
                rows -= len(parts[-1])
            first = max(first - len(batch), 0)
        return pa.Table.from_batches(parts, schema=reader.schema)
