"""Signs of life of the workers on a version: whoever stops giving them is taken for dead, and its claims are free.

`workers/<worker>.<n>` in the version's folder, a new one every `beat_s`. Ages are differences of the store's own
timestamps, so no clock of a worker is trusted. On one machine a lock tells of a death at once.
"""

import fcntl
import hashlib
import logging
import os
import platform
import re
import threading
import time
from contextlib import suppress
from functools import cache
from io import FileIO
from pathlib import Path
from typing import Self

from lightgen.errors import StoreError
from lightgen.storage.files import Files

log = logging.getLogger(__name__)

BEAT_S, DEAD_S = 30.0, 120.0
NAME = re.compile(r"^([0-9a-f]{32})\.(\d+)\Z")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
LEAVE_S = 5.0  # how long a worker that ends waits for a beat under way
STALE_S = 3600.0  # locks of the dead are kept for those who still ask about them


class Heartbeats:
    """The heartbeats of all workers on the version in `folder`, as one of them reads and writes them.

    Dead is whose newest beat is `dead_s` older than the reader's own newest, both by the store's timestamps.
    """

    def __init__(self, files: Files, folder: str, beat_s: float = BEAT_S, dead_s: float = DEAD_S) -> None:
        self.files, self.version = files, folder
        self.folder = f"{folder}/workers"
        self.beat_s, self.dead_s = beat_s, dead_s
        self.locks = Locks(files.scratch(f"workers/{_machine()}"))
        self._now: float | None = None
        self._seen: dict[str, tuple[int, float]] = {}

    def beat(self, worker: str, n: int) -> None:
        """The `n`-th sign of life, from 0. The one before stays until the next, so that every listing shows one."""
        self.files.create(f"{self.folder}/{worker}.{n}", [b"%d" % n], durable=False)
        if n > 1:
            self.files.delete(f"{self.folder}/{worker}.{n - 2}")

    def names(self) -> list[str]:
        """The heartbeats that there are."""
        return self.files.names(self.folder)

    def bury(self, worker: str) -> None:
        """`worker` is gone, and that is certain: its claims are free at once."""
        mine = [name for name in self.names() if name.startswith(f"{worker}.")]
        self.files.delete_many([f"{self.folder}/{name}" for name in mine])

    def others_alive(self, reader: str) -> set[str]:
        """The workers beside `reader` that are alive, as it sees them. Takes one listing."""
        newest: dict[str, tuple[int, float]] = {}
        for name, (_, modified) in self.files.listing(self.folder).items():
            if found := NAME.match(name):
                newest[found[1]] = max(newest.get(found[1], (-1, 0.0)), (int(found[2]), modified))
        if reader in newest:
            self._now = newest.pop(reader)[1]
        return {worker for worker, (n, modified) in newest.items() if self._is_alive(worker, n, modified)}

    def _is_alive(self, worker: str, n: int, modified: float) -> bool:
        if self.locks.is_free(worker):
            return False
        if self._now is None:
            return True
        # A timestamp in the future counts from the moment it was first seen: the store's clock may have been set back.
        seen, at = self._seen.get(worker, (n, modified))
        since = min(modified, self._now, at if seen == n else modified)
        self._seen[worker] = (n, since)
        return self._now - since <= self.dead_s


class Heart:
    """Beats for `worker` in a thread while the context is entered; afterwards the worker is gone for all others."""

    def __init__(self, beats: Heartbeats, worker: str) -> None:
        self.beats, self.worker, self.n = beats, worker, 0
        self._lock: FileIO | None = None
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._lock = self.beats.locks.hold(self.worker)
        self.beat()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._end.set()
        self._thread.join(LEAVE_S)
        try:
            self.beats.bury(self.worker)
        except (StoreError, OSError) as trouble:  # must not hide why the work ended
            log.warning("heartbeats of %s stay behind: %s", self.worker, trouble)
        if self._lock is not None:
            self.beats.locks.release(self.worker, self._lock)

    def beat(self) -> None:
        """One more sign of life."""
        self.beats.beat(self.worker, self.n)
        self.n += 1
        if self._lock is not None:
            os.utime(self._lock.fileno())

    def _run(self) -> None:
        while not self._end.wait(self.beats.beat_s):
            try:
                self.beat()
            except (StoreError, OSError) as trouble:  # without beats others may repeat this work, no more
                log.warning("heartbeat of %s: %s", self.worker, trouble)


class Locks:
    """A locked file for each worker on this machine: the kernel frees it when its process ends, however that was."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def hold(self, worker: str) -> FileIO | None:
        """Lock the file of `worker`; None where the file system knows no locks."""
        self._sweep()
        coming = self.folder / f"{worker}.coming"
        file = FileIO(coming, "w")
        if not _lock(file, fcntl.LOCK_EX):
            file.close()
            coming.unlink()
            return None
        coming.rename(self.folder / worker)  # seen by others only once it is locked
        return file

    def release(self, worker: str, lock: FileIO) -> None:
        """Give the lock back."""
        (self.folder / worker).unlink(missing_ok=True)
        lock.close()

    def is_free(self, worker: str) -> bool:
        """Whether `worker` held a lock here and has ended. Of a worker on another machine nothing is known: False."""
        try:
            with FileIO(self.folder / worker, "r") as file:
                return _lock(file, fcntl.LOCK_SH)
        except FileNotFoundError:
            return False

    def _sweep(self) -> None:
        """Remove what workers left behind that were killed long ago."""
        for path in self.folder.iterdir():
            with suppress(FileNotFoundError):  # another sweeps too
                if time.time() - path.stat().st_mtime > STALE_S and self.is_free(path.name):
                    path.unlink()


def _lock(file: FileIO, how: int) -> bool:
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@cache
def _machine() -> str:
    """Names the kernel that runs this process: its locks mean nothing to another."""
    boot = BOOT_ID.read_text() if BOOT_ID.exists() else platform.node()
    return hashlib.sha256(boot.strip().encode()).hexdigest()[:16]
