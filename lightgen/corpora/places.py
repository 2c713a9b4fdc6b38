"""The bytes of corpora: local files and objects of S3, whole or in parts, with the store's retries.

What is not there or cannot be opened is InputCorrupt with the path; an S3 that refuses or stays away is StoreAccess.
"""

import contextlib
import errno
import glob
import hashlib
import io
import itertools
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import pyarrow as pa

from lightgen.errors import InputCorrupt
from lightgen.settings import cache_folder, s3_endpoint
from lightgen.storage.file_digests import file_digest

S3 = "s3://"
HIDDEN = (".", "_")  # begins names that are passed over
AHEAD = 1 << 20  # bytes that are fetched of an object at least
T = TypeVar("T")


@contextlib.contextmanager
def whole(path: str) -> Iterator[io.BufferedReader]:
    """The file, at its first byte; of an object a local copy, since S3 verifies whole reads only."""
    with explained(path), _local(path) as local, open(local, "rb") as file:
        yield file


@contextlib.contextmanager
def native(path: str) -> Iterator[Any]:
    """The same as pyarrow opens files: it reads them without asking Python for each part."""
    with explained(path), _local(path) as local, pa.OSFile(os.fsencode(local), "rb") as file:  # bytes: of any name
        yield file


@contextlib.contextmanager
def _local(path: str) -> Iterator[str]:
    if not path.startswith(S3):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "corpus"
        _asked("read", path, lambda remote: remote.get_file(path, str(copy)))
        copy.touch()  # s3fs makes no file of an empty object
        yield str(copy)


@contextlib.contextmanager
def seekable(path: str, ahead: int = 0) -> Iterator[BinaryIO]:
    """The file, for reading here and there: of an object what is read is fetched, `ahead` bytes at least."""
    with explained(path):
        remote = path.startswith(S3)
        with io.BufferedReader(_Object(path), max(ahead, 1 << 16)) if remote else open(path, "rb") as file:
            yield file


def part(path: str, offset: int, size: int) -> bytes:
    """`size` bytes from `offset`, fewer where the file is shorter. The caller verifies them."""
    with explained(path):
        if path.startswith(S3):
            return _bytes_of(path, offset, size)
        with open(path, "rb") as file:
            file.seek(offset)
            return file.read(size)


def sha256_of(path: str, copy: Any = None) -> str:
    """sha256 of the file, in hex. A local file that has not changed since it was read last is not read again.

    `copy` is what `whole` or `native` gives of the path, for whoever has it open.
    """
    if not path.startswith(S3):
        with explained(path):
            return file_digest(Path(path))
    if copy is None:
        with whole(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    copy.seek(0)
    return hashlib.file_digest(copy, "sha256").hexdigest()


def files_of(path: str, endings: str | tuple[str, ...]) -> list[str]:
    """The files that a path means, sorted: itself, those that fit it as a pattern, or all with an ending in a folder.

    Of a folder or a pattern those are left out that are hidden, begin with `_`, or lie in such a folder. A link that
    leads nowhere is a file that cannot be read. Raises InputCorrupt.
    """
    with explained(path):
        if path.startswith(S3):
            return _objects(path, endings)
        path = os.path.expanduser(path)
        if os.path.isdir(path):
            found = [one for one in _files_within(path) if one.lower().endswith(endings)]
        elif glob.has_magic(path) and not Path(path).exists():
            found = _once([one for one in glob.glob(path, recursive=True) if not os.path.isdir(one)])
        else:
            _check_local(path)
            return [path]
    found = sorted(one for one in found if _counts(one, path))
    for one in found:
        _check_local(one)
    return found


def _files_within(path: str) -> Iterator[str]:
    """All files of a folder, links and their folders among them, each folder once. Raises OSError."""

    def failed(error: OSError) -> None:
        raise error

    seen = set[str]()
    for folder, folders, names in os.walk(path, onerror=failed, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith(HIDDEN))
        if (real := os.path.realpath(folder)) in seen:
            folders.clear()
            continue
        seen.add(real)
        yield from (os.path.join(folder, name) for name in names)


def _once(paths: list[str]) -> Iterable[str]:
    """Of the paths that lead to one name in one folder, as where a link leads back up, the first."""
    known = ((os.path.realpath(os.path.dirname(one)), os.path.basename(one)) for one in paths)
    return dict(reversed(list(zip(known, paths, strict=True)))).values()


def _check_local(path: str) -> None:
    """Raises InputCorrupt for what is neither a local file nor missing, which is found when it is read."""
    if os.path.exists(path):
        if not os.path.isfile(path):
            raise InputCorrupt(f"{path} is no regular file, and a corpus is read more than once. Write it to a file")
    elif re.match(r"\w+:/", path):
        raise InputCorrupt(f"{path} is neither a local path nor s3://bucket/key. Fetch it, and give where it lies")


def state_of(path: str) -> str:
    """A text that differs when the file does. An unchanged local file is read once at most, an object never."""
    if not path.startswith(S3):
        return sha256_of(path)
    with explained(path):
        found = _asked("look at", path, lambda remote: remote.info(path, refresh=True))
    return f"{s3_endpoint()} {path} {found.get('ETag')} {found.get('size')} {found.get('LastModified')}"


def _objects(path: str, endings: str | tuple[str, ...]) -> list[str]:
    if not path.removeprefix(S3).strip("/"):
        raise InputCorrupt(f"{path} names no bucket. Give s3://bucket/key")
    magic = glob.has_magic(path)
    found = _asked(
        "list", path, lambda remote: remote.glob(path, detail=True) if magic else remote.find(path, detail=True)
    )
    files = [f"{S3}{one}" for one, facts in found.items() if facts["type"] == "file"]
    if files == [path]:
        return files
    return sorted(one for one in files if _counts(one, path) and (magic or one.lower().endswith(endings)))


def _counts(file: str, path: str) -> bool:
    """Whether no name below the folder or the fixed part of the pattern is hidden or begins with `_`."""
    fixed = list(itertools.takewhile(lambda name: not glob.has_magic(name), os.path.normpath(path).split("/")))
    return not any(name.startswith(HIDDEN) for name in os.path.normpath(file).split("/")[len(fixed) :])


class _Object(io.RawIOBase):
    """An object of S3, read in parts."""

    def __init__(self, path: str) -> None:
        self.path, self.place = path, 0
        self.size = int(_asked("look at", path, lambda remote: remote.info(path, refresh=True))["size"])

    def readable(self) -> bool:
        """See `io.IOBase`."""
        return True

    def seekable(self) -> bool:
        """See `io.IOBase`."""
        return True

    def tell(self) -> int:
        """See `io.IOBase`."""
        return self.place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """See `io.IOBase`."""
        self.place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.place, io.SEEK_END: self.size}[whence]
        return self.place

    def readinto(self, buffer: Any) -> int:
        """See `io.RawIOBase`."""
        data = _bytes_of(self.path, self.place, min(len(buffer), max(self.size - self.place, 0)))
        buffer[: len(data)] = data
        self.place += len(data)
        return len(data)


def _bytes_of(path: str, offset: int, size: int) -> bytes:
    if size <= 0:
        return b""

    def within(remote: Any) -> bytes:
        try:
            return remote.cat_file(path, start=offset, end=offset + size)
        except OSError as error:
            if error.errno == errno.EINVAL and "range" in str(error):
                return b""  # of an object that is shorter than it was
            raise

    return _asked("read", path, within)


def _asked(operation: str, path: str, call: Callable[[Any], T]) -> T:
    """The answer of S3, asked again as the store does. Raises StoreAccess, FileNotFoundError."""
    bucket = path.removeprefix(S3).partition("/")[0]
    files = _bucket(bucket, s3_endpoint(), cache_folder() / "corpora")
    return files.retry(operation, path.removeprefix(S3), lambda: call(files.remote))


@cache
def _bucket(bucket: str, endpoint: str | None, cache: Path) -> Any:
    from lightgen.storage.s3 import S3Files

    return S3Files(f"{S3}{bucket}", endpoint, cache)


@contextlib.contextmanager
def explained(path: str) -> Iterator[None]:
    """Raises InputCorrupt with the path in place of OSError."""
    try:
        yield
    except OSError as error:
        raise InputCorrupt(f"cannot read {path}: {error}. Check the path and your access to it") from error
