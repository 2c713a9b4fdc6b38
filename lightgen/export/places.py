"""Where a dataset folder goes: a folder, which appears whole, or a prefix on S3, whose `croissant.json` comes last.

Nothing is ever written over. On S3 no name can be given to many objects at once: a prefix that has no `croissant.json`
is not finished.
"""

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from lightgen.errors import ConfigError
from lightgen.settings import cache_folder, s3_endpoint
from lightgen.storage.files import Files, checked_key
from lightgen.storage.local import fsync_folder

FOLDER = "folder"  # of what is on its way: what will be delivered
LAST = ("README.md", "croissant.json")


class Place(Protocol):
    """The end of an export."""

    def check(self, names: Sequence[str]) -> None:
        """Raise ConfigError where something else stands there than data files `names`, left by the same export."""
        ...

    def on_its_way(self, digest: str) -> Path:
        """A local folder that outlives a kill, for an export of that digest."""
        ...

    def deliver(self, from_: Path) -> None:
        """Put what lies in `from_`/folder in its place, and forget the rest."""
        ...


class LocalPlace:
    """A folder that is not there yet, or empty."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()

    def check(self, names: Sequence[str]) -> None:
        """See `Place.check`."""
        folder = self.folder
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            raise ConfigError(f"{folder} is not an empty folder; nothing was written. Name a new one")
        if not folder.parent.is_dir():
            raise ConfigError(f"{folder.parent} is no folder; make it first")

    def on_its_way(self, digest: str) -> Path:
        """See `Place.on_its_way`: on the same disk, hidden."""
        return self.folder.with_name(f".{self.folder.name}.{digest}.partial")

    def deliver(self, from_: Path) -> None:
        """See `Place.deliver`."""
        fsync_folder(from_ / FOLDER / "data")
        fsync_folder(from_ / FOLDER)
        (from_ / FOLDER).rename(self.folder)
        fsync_folder(self.folder.parent)
        shutil.rmtree(from_)


class RemotePlace:
    """A prefix of a bucket, empty but for what an earlier try left: keys `name`/… in `files`."""

    def __init__(self, files: Files, name: str) -> None:
        self.files, self.name = files, checked_key(name)

    def check(self, names: Sequence[str]) -> None:
        """See `Place.check`."""
        there = set(self.files.names(self.name)) - {"data", "README.md"}
        there |= {f"data/{name}" for name in set(self.files.names(f"{self.name}/data")) - set(names)}
        if there:
            where = f"{self.files.uri}/{self.name}"
            raise ConfigError(f"{where} holds {min(there)} already; nothing was written. Name a new prefix")

    def on_its_way(self, digest: str) -> Path:
        """See `Place.on_its_way`."""
        named = hashlib.sha256(f"{self.files.uri}/{self.name}|{digest}".encode()).hexdigest()[:16]
        return cache_folder() / "exports" / named

    def deliver(self, from_: Path) -> None:
        """See `Place.deliver`. Memory: one file."""
        whole = from_ / FOLDER
        names = sorted(str(path.relative_to(whole)) for path in whole.rglob("*") if path.is_file())
        for name in sorted(names, key=lambda name: (LAST.index(name) + 1 if name in LAST else 0, name)):
            with pa.memory_map(str(whole / name)) as file:
                self.files.create(f"{self.name}/{name}", [memoryview(file.read_buffer())])
        shutil.rmtree(from_)


def place_of(target: str) -> Place:
    """The folder or the prefix of that name. Raises ConfigError, UnsafePath."""
    if not target.startswith("s3://"):
        return LocalPlace(Path(target).expanduser())
    from lightgen.storage.s3 import S3Files

    above, _, name = target.rstrip("/").rpartition("/")
    if above == "s3:/":
        raise ConfigError(f"{target} is a whole bucket; name a prefix in it: {target.rstrip('/')}/NAME")
    return RemotePlace(S3Files(above, s3_endpoint(), cache_folder()), name)
