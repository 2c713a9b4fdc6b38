"""Finished addresses of a shard in work, kept batch by batch: a kill costs the batch that is not yet written."""

import hashlib
from collections.abc import Mapping

import pyarrow as pa

from lightgen.fetch.states import Failed, Got, Made
from lightgen.storage.journal import Journal

SCHEMA = pa.schema(
    [
        pa.field("url", pa.string(), nullable=False),
        pa.field("data", pa.large_binary(), nullable=False, metadata={"is": "the file; empty where there is none"}),
        pa.field("format", pa.string(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("received", pa.string(), nullable=False, metadata={"is": "sha256 of what the server sent"}),
        pa.field("reason", pa.string(), nullable=False, metadata={"is": "why there is no picture, or empty"}),
        pa.field("detail", pa.string(), nullable=False),
    ]
)
NOTHING = {"data": b"", "format": "", "height": 0, "width": 0, "received": "", "reason": "", "detail": ""}


def keep(journal: Journal, batch: Mapping[str, Made]) -> None:
    """Write a batch down."""
    journal.add(pa.Table.from_pylist([_entry(url, made) for url, made in batch.items()], schema=SCHEMA))


def read(journal: Journal) -> dict[str, Made]:
    """What an earlier attempt has finished, by address. Raises StoreCorrupt."""
    found: dict[str, Made] = {}
    for row in (row for table in journal.read() for row in table.to_pylist()):
        if row["reason"]:
            found[row["url"]] = Failed(row["reason"], row["detail"])
        else:
            digest = hashlib.sha256(row["data"]).hexdigest()
            found[row["url"]] = Got(row["data"], row["format"], row["height"], row["width"], digest, row["received"])
    return found


def _entry(url: str, made: Made) -> dict[str, object]:
    if isinstance(made, Failed):
        detail = made.detail.encode("utf-8", "backslashreplace").decode()
        return {**NOTHING, "url": url, "reason": made.reason, "detail": detail}
    facts = {name: getattr(made, name) for name in ("data", "format", "height", "width", "received")}
    return {**NOTHING, "url": url, **facts}
