"""A large row group of Parquet, decoded once a machine into a scratch file from which any rows are mapped at once.

A Parquet column is read from its beginning only, so each of the thousand shards of a row group would decode it again.
"""

import os
import uuid
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from lightgen.storage.local import speaking_of_space

SCHEMA = pa.schema([pa.field("value", pa.large_binary())])


def write_spool(path: Path, arrays: Iterable[pa.LargeBinaryArray]) -> None:
    """Create the file, whole or not at all. Raises StoreFull."""
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    with speaking_of_space(path.parent):
        try:
            with temporary.open("wb") as file:
                with pa.ipc.new_file(file, SCHEMA) as writer:
                    for array in arrays:
                        writer.write_batch(pa.record_batch([array], schema=SCHEMA))
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def read_spool(path: Path, first: int, rows: int) -> pa.LargeBinaryArray:
    """Values `first` to `first + rows`, fewer at the end. Raises pa.ArrowInvalid for a file that is damaged."""
    parts = [pa.array([], pa.large_binary())]
    with pa.memory_map(str(path)) as file:
        reader = pa.ipc.open_file(file)
        for number in range(reader.num_record_batches):
            values = reader.get_batch(number).column(0)
            if first < len(values) and rows > 0:
                parts.append(values[max(first, 0) : first + rows])
                rows -= len(parts[-1])
            first = max(first - len(values), 0)
        return pa.concat_arrays(parts)
