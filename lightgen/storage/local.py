"""Create-if-absent on a local file system: write and fsync a temporary file, link it, fsync the folder."""

import contextlib
import errno
import os
import shutil
import stat
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from lightgen.errors import (
    StoreConflict,
    StoreError,
    StoreFull,
    StoreReadOnly,
    StoreUnsupported,
    UnsafePath,
)
from lightgen.storage.files import Chunk, Outcome, Upload, checked_key, sha256_of, sha256_of_file, vanished

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
READ_ONLY = {errno.EROFS, errno.EACCES, errno.EPERM}
NO_LINK = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV, errno.EMLINK}
TRIES = 20  # of a create whose folder is removed meanwhile
TEMPORARY_S = 24 * 3600.0


class LocalFiles:
    """A folder as a place for immutable files."""

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.abspath(root))
        self.uri = str(self.root)
        self._durable: set[Path] = set()
        if self.root.is_symlink():
            raise UnsafePath(f"{self.root} is a symbolic link; name the folder it points to as the store")

    def create(self, key: str, chunks: Sequence[Chunk], sha256: str | None = None, durable: bool = True) -> Outcome:
        """See `Files.create`."""
        final = self._path(key)
        with speaking_of_space(self.root):
            for _ in range(TRIES):
                try:
                    return self._create(final, chunks, sha256, durable)
                except FileNotFoundError:
                    # Another process removed the folder when it became empty: after a probe, or in a collection.
                    self._durable.clear()
        raise StoreError(f"{final}: its folder vanishes as often as it is made; something else deletes in this store")

    def _create(self, final: Path, chunks: Sequence[Chunk], sha256: str | None, durable: bool) -> Outcome:
        self._make_folder(final.parent)
        temporary = self._write_temporary(chunks, durable)
        try:
            self._link(temporary, final)
            outcome: Outcome = "created"
        except FileExistsError:
            if sha256_of_file(final) != (sha256 or sha256_of(chunks)):
                raise StoreConflict(f"{final} exists with other bytes; it was not touched") from None
            outcome = "same"
        finally:
            os.unlink(temporary)
        if durable:  # also after "same": whoever created it may not have reached this line yet
            fsync_folder(final.parent)
        return outcome

    def link(self, source: str, key: str) -> None:
        """See `Files.link`."""
        final = self._path(key)
        with speaking_of_space(self.root):
            self._make_folder(final.parent)
            with contextlib.suppress(FileExistsError):
                self._link(self._path(source), final)
            fsync_folder(final.parent)

    def read(self, key: str) -> bytes:
        """See `Files.read`."""
        try:
            return self._path(key).read_bytes()
        except NotADirectoryError as error:
            raise FileNotFoundError(*error.args) from None

    def read_many(self, keys: Sequence[str]) -> list[bytes]:
        """See `Files.read_many`."""
        try:
            return [self.read(key) for key in keys]
        except FileNotFoundError as error:
            raise vanished(str(error.filename)) from None

    def read_range(self, key: str, offset: int, size: int) -> bytes:
        """See `Files.read_range`."""
        with self._path(key).open("rb") as file:
            file.seek(offset)
            return file.read(size)

    def names(self, folder: str) -> list[str]:
        """See `Files.names`."""
        try:
            return sorted(os.listdir(self._path(folder)))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def sizes(self, folder: str) -> dict[str, int]:
        """See `Files.sizes`."""
        return {name: size for name, (size, _) in self.listing(folder).items()}

    def listing(self, folder: str) -> dict[str, tuple[int, float]]:
        """See `Files.listing`."""
        return dict(_files_of(self._path(folder), self.names(folder)))

    def walk(self, folder: str) -> dict[str, tuple[int, float]]:
        """See `Files.walk`."""
        root = self._path(folder)
        found: dict[str, tuple[int, float]] = {}
        for path, _, names in os.walk(root):
            below = Path(path).relative_to(root)
            found |= {str(below / name): about for name, about in _files_of(Path(path), names)}
        return found

    def fetch(self, key: str, sha256: str, size: int) -> Path:
        """See `Files.fetch`: the file itself. Raises FileNotFoundError."""
        path = self._path(key)
        os.stat(path)
        return path

    def settle(self, folder: str) -> None:
        """See `Files.settle`: fsync of the folder and those above it."""
        path = self._path(folder)
        while path != self.root.parent:
            if path.is_dir():
                fsync_folder(path)
            path = path.parent

    def uploads(self) -> list[Upload]:
        """See `Files.uploads`."""
        return []

    def abort(self, upload: Upload) -> None:
        """See `Files.abort`."""
        raise AssertionError("a local disk has no uploads")

    def delete(self, key: str) -> None:
        """See `Files.delete`."""
        path = self._path(key)
        with speaking_of_space(self.root), contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        # An empty folder would be listed as a version without files.
        with contextlib.suppress(OSError):
            os.rmdir(path.parent)
            self._durable.clear()
            os.rmdir(path.parent.parent)

    def delete_many(self, keys: Sequence[str]) -> None:
        """See `Files.delete_many`."""
        for key in keys:
            self.delete(key)

    def clear(self) -> None:
        """See `Files.clear`."""
        shutil.rmtree(self.root, ignore_errors=True)

    def scratch(self, name: str) -> Path:
        """See `Files.scratch`."""
        path = self._path(f"_scratch/{name}")
        with speaking_of_space(self.root):
            path.mkdir(parents=True, exist_ok=True)
        return path

    def sweep(self, older_than_s: float = TEMPORARY_S) -> None:
        """Remove temporary files that a killed writer left behind."""
        limit = time.time() - older_than_s
        for path in (self.root / "_tmp").glob("*"):
            with contextlib.suppress(OSError):
                if path.lstat().st_mtime < limit:
                    path.unlink()

    def _path(self, key: str) -> Path:
        path = self.root
        for part in checked_key(key).split("/"):
            path = path / part
            if path.is_symlink():
                raise UnsafePath(f"{path} is a symbolic link; a store holds plain files and folders only")
        return path

    def _make_folder(self, folder: Path) -> None:
        """Make `folder` durable. One that stands there may be a killed writer's: its entry is synced once too."""
        if folder in self._durable:
            return
        if folder != self.root:
            self._make_folder(folder.parent)
        else:
            folder.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder)
        fsync_folder(folder.parent)
        self._durable.add(folder)

    def _write_temporary(self, chunks: Sequence[Chunk], durable: bool) -> Path:
        self._make_folder(self.root / "_tmp")
        path = self.root / "_tmp" / uuid.uuid4().hex
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            with open(descriptor, "wb", buffering=1 << 20) as file:
                file.writelines(chunks)
                file.flush()
                if durable:
                    os.fsync(descriptor)
        except BaseException:
            os.unlink(path)
            raise
        return path

    def _link(self, temporary: Path, final: Path) -> None:
        try:
            os.link(temporary, final)
        except FileExistsError:
            raise
        except OSError as error:
            if error.errno not in NO_LINK:
                raise
            raise StoreUnsupported(
                f"{self.root} lies on a file system without hard links ({error.strerror}), so two runs could overwrite "
                "each other there. Use another disk or an S3 store."
            ) from error


def _files_of(folder: Path, names: Iterable[str]) -> Iterator[tuple[str, tuple[int, float]]]:
    """Name, size and time of change of the plain files among `names`; one that was deleted meanwhile is left out."""
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            status = os.lstat(folder / name)
            if stat.S_ISREG(status.st_mode):
                yield name, (status.st_size, status.st_mtime)


def fsync_folder(folder: Path) -> None:
    """Make the entries of `folder` survive a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def speaking_of_space(root: Path) -> Iterator[None]:
    """Turn a full or read-only disk into an error that says so."""
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        if error.errno in FULL:
            raise StoreFull(
                f"no space left for the store {root} ({error.strerror}). Nothing was published and finished shards "
                "stay: free some space and run the same command again."
            ) from error
        if error.errno in READ_ONLY:
            raise StoreReadOnly(
                f"the store {root} may not be written ({error.strerror}: {error.filename or root})"
            ) from error
        raise
