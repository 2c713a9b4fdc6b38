"""The one primitive the store stands on: create a key with these bytes, all or nothing, only if it is absent.

`LocalFiles` and `S3Files` provide it. Keys are relative, slash-separated and made of [A-Za-z0-9._-] only.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from lightgen.errors import StoreVanished, UnsafePath

Outcome = Literal["created", "same"]
Chunk = bytes | memoryview
KEY_PART = re.compile(r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}\Z")


@dataclass(frozen=True)
class Upload:
    """A multipart upload that was begun and not finished; `began` is in seconds since 1970."""

    key: str
    id: str
    began: float


class Files(Protocol):
    """A place for immutable files."""

    uri: str

    def create(self, key: str, chunks: Sequence[Chunk], sha256: str | None = None, durable: bool = True) -> Outcome:
        """Create `key`; "same" where it holds these bytes already. Raises StoreConflict where it holds others.

        `sha256` is that of the bytes, as hex, where the caller has it: then they are not hashed again. With
        `durable=False` a loss of power may take it back: for what matters only while its writer lives.
        """
        ...

    def link(self, source: str, key: str) -> None:
        """Give the bytes of `source` the name `key` too, without reading them; nothing where `key` is there already.

        Both names are made of the digest of the bytes. A hard link on a disk, a copy by the server on S3.
        Raises FileNotFoundError.
        """
        ...

    def read(self, key: str) -> bytes:
        """All bytes of `key`. Raises FileNotFoundError."""
        ...

    def read_many(self, keys: Sequence[str]) -> list[bytes]:
        """All bytes of each of some keys that were just listed, in order. Raises StoreVanished where one is gone."""
        ...

    def read_range(self, key: str, offset: int, size: int) -> bytes:
        """`size` bytes from `offset`; fewer at the end of the file. Not verified."""
        ...

    def names(self, folder: str) -> list[str]:
        """Names of files and folders directly in `folder`, sorted; empty where it is absent."""
        ...

    def sizes(self, folder: str) -> dict[str, int]:
        """Name -> bytes of the files directly in `folder`."""
        ...

    def listing(self, folder: str) -> dict[str, tuple[int, float]]:
        """Name -> (bytes, seconds since 1970 of its last change) of the files directly in `folder`."""
        ...

    def walk(self, folder: str) -> dict[str, tuple[int, float]]:
        """The same for all files in `folder` and the folders in it, by their path below `folder`."""
        ...

    def fetch(self, key: str, sha256: str, size: int) -> Path:
        """A local file with the bytes of `key`; for a remote key a cached copy, named by its sha256."""
        ...

    def settle(self, folder: str) -> None:
        """Return when everything created in `folder`, by whomever, survives a loss of power."""
        ...

    def uploads(self) -> list[Upload]:
        """Unfinished uploads, of living writers too. None on a local disk."""
        ...

    def abort(self, upload: Upload) -> None:
        """Free what was sent of an upload; one that ended meanwhile is fine."""
        ...

    def delete(self, key: str) -> None:
        """Remove `key`; absent is fine. For probes, claims and garbage collection only."""
        ...

    def delete_many(self, keys: Sequence[str]) -> None:
        """Remove each of `keys`; absent is fine."""
        ...

    def clear(self) -> None:
        """Delete everything, scratch and cached copies too: for a store that was made to be thrown away."""
        ...

    def scratch(self, name: str) -> Path:
        """A local folder for unfinished work, kept between runs, invisible to readers."""
        ...


def sha256_of(chunks: Iterable[Chunk]) -> str:
    """Hex digest of the bytes of all chunks."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def sha256_of_file(path: Path) -> str:
    """Hex digest of a local file, read in parts."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def vanished(key: str) -> StoreVanished:
    """The error for a file that was there a moment ago."""
    return StoreVanished(
        f"{key} was deleted while it was read: a collection with too short a time of grace, or another program, works "
        "in this store. Run the same command again"
    )


def checked_key(key: str) -> str:
    """`key`, if it cannot leave the store. Raises UnsafePath."""
    if not all(KEY_PART.match(part) for part in key.split("/")):
        raise UnsafePath(f"{key!r} is not a name the store accepts: letters, digits, '.', '_' and '-' between slashes")
    return key
