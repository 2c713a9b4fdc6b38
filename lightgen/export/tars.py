"""Plain WebDataset tars: `<id>.jpg`, `<id>.json` with all columns, `<id>.txt` with the caption.

A pair has `<id>.winner.jpg` and `<id>.loser.jpg`.

Only regular files, no times and no owners, samples in the order of the rows: the same version gives the same bytes.
"""

import json
from collections.abc import Iterable, Iterator
from math import isfinite
from pathlib import Path
from typing import Any

from lightgen.errors import ConfigError
from lightgen.export.rows import Batch, Rows, is_bytes
from lightgen.storage.shards import key_column
from lightgen.storage.tar import END, check_extension, check_tar_key, header, padding

ENDING = "tar"


def check_kind(rows: Rows) -> None:
    """Raises ConfigError where a row has no id or holds vectors, which are no files."""
    vectors = [field.name for field in rows.schema if is_bytes(field.type)]
    if vectors or key_column(rows.schema) != "id":
        raise ConfigError(f"{rows.version.ref} has no form as WebDataset; take --format parquet")


def write(batches: Iterable[Batch], rows: Rows, path: Path) -> int:
    """One tar of these batches; the bytes of its members. Memory: one batch."""
    written = 0
    with path.open("wb") as file:
        for batch in batches:
            for name, data in members(batch):
                file.write(header(name.encode("ascii"), len(data)))
                file.write(data)
                file.write(padding(len(data)))
                written += len(data)
        file.write(END)
    return written


def members(batch: Batch) -> Iterator[tuple[str, bytes]]:
    """The files of each row: its pictures, its columns, its caption."""
    for place, row in enumerate(batch.table.to_pylist()):
        check_tar_key(row["id"])
        for side, pictures in batch.pictures.items():
            extension = pictures[place].name.rpartition(".")[2]
            extension = extension if side == "image" else f"{side}.{extension}"
            check_extension(extension)
            yield f"{row['id']}.{extension}", pictures[place].data
        yield f"{row['id']}.json", _json(row)
        if "caption" in row:
            yield f"{row['id']}.txt", row["caption"].encode()


def _json(row: dict[str, Any]) -> bytes:
    """JSON has no word for a number that is none or without end: null stands there."""
    finite = {name: None if isinstance(one, float) and not isfinite(one) else one for name, one in row.items()}
    return json.dumps(finite, ensure_ascii=False, allow_nan=False).encode()
