"""The tables of a version as files on this machine, so that single rows of them can be read."""

from collections.abc import Sequence
from pathlib import Path

from lightgen.errors import StoreCorrupt
from lightgen.storage.version import Version
from schemas.documents import FileEntry, Receipt


def fetched(version: Version, receipts: Sequence[Receipt], verify: bool) -> list[Path]:
    """The tables of those shards that have rows, in order; files of a store on S3 are downloaded once, into its cache.

    With `verify` every byte is read once and checked, on a local store too. Raises StoreCorrupt.
    """
    entries = [entry for receipt in receipts for entry in receipt.files if entry.role == "table"]
    if verify:
        for entry in entries:
            version.read(entry)
    return [_fetched(version, entry) for entry in entries if entry.rows]


def _fetched(version: Version, entry: FileEntry) -> Path:
    key = f"{version.folder}/{entry.path}"
    try:
        path = version.files.fetch(key, entry.sha256, entry.bytes)
        size = path.stat().st_size
    except FileNotFoundError:
        raise StoreCorrupt(f"{key}: is missing; run `lightgen verify`") from None
    if size != entry.bytes:
        raise StoreCorrupt(f"{key}: expected {entry.bytes} bytes, got {size}; run `lightgen verify`")
    return path
