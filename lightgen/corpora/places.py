"""The bytes of corpora: local files and objects of S3, whole or in parts. Failures are InputCorrupt with the path."""

import contextlib
import glob
import hashlib
import io
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

from lightgen.errors import InputCorrupt
from lightgen.settings import s3_endpoint
from lightgen.storage.file_digests import file_digest

S3 = "s3://"


@contextlib.contextmanager
def whole(path: str) -> Iterator[io.BufferedReader]:
    """The file, at its first byte; of an object a local copy, since S3 verifies whole reads only."""
    with _explained(path):
        if not path.startswith(S3):
            with open(path, "rb") as file:
                yield file
            return
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "corpus"
            _remote(s3_endpoint()).get_file(path, str(copy))
            copy.touch()  # s3fs makes no file of an empty object
            with copy.open("rb") as file:
                yield file


@contextlib.contextmanager
def seekable(path: str) -> Iterator[BinaryIO]:
    """The file, for reading here and there: of an object only what is read is fetched. The caller verifies it."""
    with _explained(path):
        remote = path.startswith(S3)
        with _remote(s3_endpoint()).open(path, "rb", cache_type="none") if remote else open(path, "rb") as file:
            yield file


def part(path: str, offset: int, size: int) -> bytes:
    """`size` bytes from `offset`, fewer where the file is shorter. The caller verifies them."""
    with _explained(path):
        if path.startswith(S3):
            return _remote(s3_endpoint()).cat_file(path, start=offset, end=offset + size)
        with open(path, "rb") as file:
            file.seek(offset)
            return file.read(size)


def sha256_of(path: str, copy: io.BufferedReader | None = None) -> str:
    """sha256 of the file, in hex. A local file that has not changed since it was read last is not read again.

    `copy` is what `whole` gives of the path, for whoever has it open.
    """
    if not path.startswith(S3):
        with _explained(path):
            return file_digest(Path(path))
    if copy is None:
        with whole(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    copy.seek(0)
    return hashlib.file_digest(copy, "sha256").hexdigest()


def files_of(path: str, ending: str) -> list[str]:
    """The files that a path means, sorted: itself, those that fit it as a pattern, or all with `ending` in a folder."""
    with _explained(path):
        if path.startswith(S3):
            remote = _remote(s3_endpoint())
            found = remote.glob(path) if glob.has_magic(path) else remote.find(path)
            files = [f"{S3}{one}" for one in found]
            return sorted(one for one in files if one == path or one.endswith(ending))
        if Path(path).is_dir():
            return sorted(str(one) for one in Path(path).rglob(f"*{ending}"))
        return sorted(glob.glob(path, recursive=True)) if glob.has_magic(path) else [path]


def state_of(path: str) -> str:
    """A text that differs when the file does. An unchanged local file is read once at most, an object never."""
    if not path.startswith(S3):
        return sha256_of(path)
    with _explained(path):
        found = _remote(s3_endpoint()).info(path, refresh=True)
    return f"{s3_endpoint()} {path} {found.get('ETag')} {found.get('size')} {found.get('LastModified')}"


@cache
def _remote(endpoint: str | None) -> Any:
    import s3fs

    return s3fs.S3FileSystem(endpoint_url=endpoint, use_listings_cache=False, skip_instance_cache=True)


@contextlib.contextmanager
def _explained(path: str) -> Iterator[None]:
    try:
        yield
    except (OSError, *_trouble(path)) as error:
        raise InputCorrupt(f"cannot read {path}: {error}. Check the path and your access to it") from error


def _trouble(path: str) -> tuple[type[Exception], ...]:
    """What libraries of S3 raise beside OSError."""
    if not path.startswith(S3):
        return ()
    from aiohttp import ClientError
    from botocore.exceptions import BotoCoreError

    return BotoCoreError, ClientError
