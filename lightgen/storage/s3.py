"""Create-if-absent on S3: a conditional PUT (`If-None-Match: *`) of whole objects, through s3fs.

From 100 MiB on it is a multipart upload with the condition on its completion. One whose writer was killed is billed and
seen by nobody, until `lightgen gc` aborts it.

s3fs is used with care, for tried reasons: its `open` publishes a truncated object after an exception, its listing cache
answers with the past, and a lost reply makes a retried create fail although it won. So objects are written whole, the
cache is off, and a refused create is compared with what stands there.
"""

import contextlib
import errno
import hashlib
import logging
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import s3fs
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, NoCredentialsError

from lightgen.errors import StoreAccess, StoreConflict, StoreCorrupt, StoreError
from lightgen.storage.files import Chunk, Outcome, Upload, checked_key, sha256_of, vanished

log = logging.getLogger(__name__)
T = TypeVar("T")
DEADLINE_S = 300.0
FIRST_WAIT_S, LONGEST_WAIT_S = 0.2, 20.0
PASSING = {errno.EIO, errno.EBUSY, errno.EREMOTEIO}
PASSING_STATUS = {409, 429, 500, 502, 503, 504}
COMPARE_BYTES = 1 << 20
PAGE = 1_000  # uploads listed in one answer, the most that S3 gives


class _FileSystem(s3fs.S3FileSystem):
    """s3fs with fewer retries of its own, for ours have a deadline."""

    retries = 3


class S3Files:
    """A prefix of an S3 bucket as a place for immutable files. `cache` holds local copies and scratch folders."""

    def __init__(self, uri: str, endpoint: str | None, cache: Path, deadline_s: float = DEADLINE_S) -> None:
        self.uri = uri.rstrip("/")
        self.bucket, _, self.prefix = self.uri.removeprefix("s3://").partition("/")
        if self.prefix:
            checked_key(self.prefix)
        self.cache = cache / hashlib.sha256(f"{endpoint}|{self.uri}".encode()).hexdigest()[:16]
        self.deadline_s = deadline_s
        # s3fs makes its synchronous methods at run time: their types are not known.
        self.remote: Any = _FileSystem(
            endpoint_url=endpoint,
            use_listings_cache=False,
            skip_instance_cache=True,
            default_block_size=16 << 20,
            config_kwargs={
                "retries": {"mode": "standard", "total_max_attempts": 4},
                "connect_timeout": 5,
                "read_timeout": 60,
                "max_pool_connections": 32,
            },
        )

    def create(self, key: str, chunks: Sequence[Chunk], sha256: str | None = None, durable: bool = True) -> Outcome:
        """See `Files.create`. S3 keeps whatever it acknowledges."""
        path, data = self._path(key), b"".join(chunks)
        digest = sha256 or sha256_of([data])

        def put() -> Outcome:
            try:
                self.remote.pipe_file(path, data, mode="create", Metadata={"sha256": digest})
            except OSError as error:
                if not _is_refused_create(error):
                    raise
                # Also after our own lost reply: then what stands there is ours.
                if not self._same(path, data, digest):
                    raise StoreConflict(f"s3://{path} exists with other bytes; it was not touched") from None
                return "same"
            return "created"

        return self.retry("write", path, put)

    def link(self, source: str, key: str) -> None:
        """See `Files.link`. Both names carry the digest, so a copy that happens twice changes nothing."""
        here, there = self._path(source), self._path(key)
        self.retry("copy", there, lambda: self.remote.cp_file(here, there))

    def read(self, key: str) -> bytes:
        """See `Files.read`. A whole GET, so that the checksum of the upload is verified."""
        path = self._path(key)
        return self.retry("read", path, lambda: self.remote.cat_file(path))

    def read_many(self, keys: Sequence[str]) -> list[bytes]:
        """See `Files.read_many`: GETs side by side."""
        if not keys:
            return []
        paths = [self._path(key) for key in keys]
        try:
            found = self.retry("read", paths[0], lambda: self.remote.cat(paths))
        except FileNotFoundError as error:
            raise vanished(str(error.filename or error)) from None
        return [found[path] for path in paths]

    def read_range(self, key: str, offset: int, size: int) -> bytes:
        """See `Files.read_range`. S3 sends no checksum of a range: the caller verifies."""
        if not size:
            return b""
        path = self._path(key)
        return self.retry("read", path, lambda: self.remote.cat_file(path, start=offset, end=offset + size))

    def names(self, folder: str) -> list[str]:
        """See `Files.names`."""
        return sorted({info["name"].rstrip("/").rsplit("/", 1)[-1] for info in self._list(folder)})

    def sizes(self, folder: str) -> dict[str, int]:
        """See `Files.sizes`."""
        return {name: size for name, (size, _) in self.listing(folder).items()}

    def listing(self, folder: str) -> dict[str, tuple[int, float]]:
        """See `Files.listing`."""
        files = [info for info in self._list(folder) if info["type"] == "file"]
        return {info["name"].rsplit("/", 1)[-1]: (info["size"], info["LastModified"].timestamp()) for info in files}

    def walk(self, folder: str) -> dict[str, tuple[int, float]]:
        """See `Files.walk`."""
        path = self._path(folder)
        found = self.retry("list", path, lambda: self.remote.find(path, detail=True))
        return {
            name.removeprefix(f"{path}/"): (info["size"], info["LastModified"].timestamp())
            for name, info in found.items()
            if info["type"] == "file"
        }

    def fetch(self, key: str, sha256: str, size: int) -> Path:
        """See `Files.fetch`: downloaded once, whole and verified, into the cache."""
        path = self.cache / "files" / sha256[:2] / sha256
        if path.exists() and path.stat().st_size == size:
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            temporary = Path(folder) / "download"
            remote = self._path(key)
            self.retry("read", remote, lambda: self.remote.get_file(remote, str(temporary)))
            if not temporary.exists() and size == 0:
                temporary.touch()
            with temporary.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != sha256:
                raise StoreCorrupt(f"{key}: sha256 is not that of the manifest, or {temporary.stat().st_size} bytes")
            os.replace(temporary, path)
        return path

    def settle(self, folder: str) -> None:
        """See `Files.settle`: S3 acknowledges only what it keeps."""

    def uploads(self) -> list[Upload]:
        """See `Files.uploads`."""
        under = f"{self.prefix}/" if self.prefix else ""
        found: dict[str, Upload] = {}
        options: dict[str, Any] = {"Bucket": self.bucket, "Prefix": under, "MaxUploads": PAGE}
        while True:
            page = self.retry(
                "list uploads in", self.uri, lambda: self.remote.call_s3("list_multipart_uploads", **options)
            )
            listed = [
                Upload(one["Key"].removeprefix(under), one["UploadId"], one["Initiated"].timestamp())
                for one in page.get("Uploads", [])
            ]
            is_news = any(upload.id not in found for upload in listed)
            found |= {upload.id: upload for upload in listed}
            if not page.get("IsTruncated") or not is_news:
                return list(found.values())
            # SeaweedFS sends the second of these only.
            for name in ("KeyMarker", "UploadIdMarker"):
                if page.get(f"Next{name}"):
                    options[name] = page[f"Next{name}"]

    def abort(self, upload: Upload) -> None:
        """See `Files.abort`."""
        path = self._path(upload.key)
        bucket, _, key = path.partition("/")
        with contextlib.suppress(FileNotFoundError):
            self.retry("abort the upload of", path, lambda: self.remote.abort_mpu(bucket, key, upload.id))

    def delete(self, key: str) -> None:
        """See `Files.delete`."""
        path = self._path(key)
        with contextlib.suppress(FileNotFoundError):
            self.retry("delete", path, lambda: self.remote.rm_file(path))

    def delete_many(self, keys: Sequence[str]) -> None:
        """See `Files.delete_many`: a thousand in one request."""
        if keys:
            paths = [self._path(key) for key in keys]
            self.retry("delete", paths[0], lambda: self.remote.rm(paths))

    def clear(self) -> None:
        """See `Files.clear`. Raises StoreError for a whole bucket: others may keep things there."""
        if not self.prefix:
            raise StoreError(f"{self.uri} is a whole bucket, which is not cleared")
        path = f"{self.bucket}/{self.prefix}"
        found = self.retry("list", path, lambda: self.remote.find(path))
        self.delete_many([name.removeprefix(f"{path}/") for name in found])
        shutil.rmtree(self.cache, ignore_errors=True)

    def scratch(self, name: str) -> Path:
        """See `Files.scratch`."""
        path = self.cache / "scratch" / checked_key(name)
        path.mkdir(parents=True, exist_ok=True)
        return path

    def _path(self, key: str) -> str:
        return "/".join(part for part in (self.bucket, self.prefix, checked_key(key)) if part)

    def _list(self, folder: str) -> list[dict]:
        """Entries directly in `folder`, the folder itself left out, which SeaweedFS lists when it was emptied."""
        path = self._path(folder)
        try:
            found = self.retry("list", path, lambda: self.remote.ls(path, detail=True, refresh=True))
        except FileNotFoundError:
            return []
        return [info for info in found if info["name"].rstrip("/").rpartition("/")[0] == path]

    def _same(self, path: str, data: bytes, sha256: str) -> bool:
        if len(data) <= COMPARE_BYTES:
            return self.remote.cat_file(path) == data
        info = self.remote.info(path)
        return info["size"] == len(data) and self.remote.metadata(path).get("sha256") == sha256

    def retry(self, operation: str, path: str, call: Callable[[], T]) -> T:
        """`call` of an object `path`, again after passing failures until the deadline; all others in the store's words.

        FileNotFoundError is left as it is.
        """
        end, wait_s = time.monotonic() + self.deadline_s, FIRST_WAIT_S
        while True:
            try:
                return call()
            except StoreError:
                raise
            except (OSError, BotoCoreError, aiohttp.ClientError) as error:
                trouble = self._trouble(operation, path, error)
                if trouble is not None:
                    raise trouble from error
                if time.monotonic() + wait_s > end:
                    raise StoreAccess(
                        f"cannot {operation} s3://{path}: still failing after {self.deadline_s:.0f} s: {error}. "
                        "Check the address of the server and the network, then run the same command again"
                    ) from error
                log.warning("%s s3://%s: %s; trying again", operation, path, error)
                time.sleep(random.uniform(0, wait_s))
                wait_s = min(2 * wait_s, LONGEST_WAIT_S)

    def _trouble(self, operation: str, path: str, error: Exception) -> Exception | None:
        """The error to raise, or None where trying again may help."""
        code, status = _code(error), _status(error)
        if isinstance(error, (PermissionError, NoCredentialsError)):
            why = code or type(error).__name__
            return StoreAccess(
                f"cannot {operation} s3://{path}: refused ({why}). Check the credentials, the clock and the policy of "
                f"bucket {self.bucket!r}"
            )
        if code == "NoSuchBucket":
            return StoreAccess(f"cannot {operation} s3://{path}: there is no bucket {self.bucket!r}; create it first")
        if isinstance(error, FileNotFoundError):
            return error
        if isinstance(error, (HTTPClientError, aiohttp.ClientError, TimeoutError, ConnectionError)):
            return None
        if status in PASSING_STATUS or (isinstance(error, OSError) and error.errno in PASSING and status is None):
            return None
        return StoreAccess(f"cannot {operation} s3://{path}: {error}")


def _response(error: BaseException) -> dict:
    while error is not None:
        if isinstance(error, ClientError):
            return dict(error.response)
        error = error.__cause__  # pyright: ignore[reportAssignmentType]
    return {}


def _code(error: BaseException) -> str:
    return _response(error).get("Error", {}).get("Code", "")


def _status(error: BaseException) -> int | None:
    return _response(error).get("ResponseMetadata", {}).get("HTTPStatusCode")


def _is_refused_create(error: OSError) -> bool:
    """412 comes as FileExistsError or, without a `<Condition>` in its body, as errno 22."""
    return isinstance(error, FileExistsError) or _status(error) == 412 or _code(error) == "PreconditionFailed"
