"""One worker a GPU: a lock file for each GPU of this machine, which the kernel frees when its holder dies."""

import contextlib
import fcntl
import io
import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from weakref import WeakSet

from lightgen.errors import ConfigError
from lightgen.settings import gpu_lock_folder

log = logging.getLogger(__name__)

POLL_S = 0.2
# All users of a machine share its GPUs. The sticky bit of a file keeps systemd from tidying it away after some days: a
# run may last longer, and a lock file that is made again locks out nobody.
FOLDER_MODE, FILE_MODE = 0o1777, 0o1666
_locked = WeakSet[io.FileIO]()
_holding: ContextVar[bool] = ContextVar("holding", default=False)


def visible_gpus() -> list[str]:
    """The GPUs, or MIG slices, that this process sees, as `CUDA_VISIBLE_DEVICES` names them; none on a CPU."""
    import torch

    if not torch.cuda.is_available():
        return []
    found = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return [f"{'MIG' if ' MIG ' in gpu.name else 'GPU'}-{gpu.uuid}" for gpu in found]


@contextlib.contextmanager
def gpu_slots(
    wanted: int | Sequence[str] | None = None,
    *,
    folder: Path | None = None,
    visible: Callable[[], Sequence[str]] = visible_gpus,
) -> Iterator[list[str]]:
    """Wait for GPUs of this machine and hold them: those named, any `wanted` of the visible ones, or all of these.

    Yields the names held, as `CUDA_VISIBLE_DEVICES` takes them; on a machine without GPUs none, at once.

    Several GPUs are taken in one moment or not at all, so no two that wait can block each other. There is no queue:
    whoever tries first after a release gets the GPU. `folder` holds the lock files (default: `gpu_lock_folder()`).
    Raises ConfigError where fewer GPUs are visible than wanted.
    """
    candidates, count = _candidates(wanted, visible)
    assert not (count and _holding.get()), "whoever holds a GPU must not ask for one: it would wait for itself"
    locks = _wait(folder or gpu_lock_folder(), candidates, count) if count else {}
    before = _holding.set(bool(locks))
    try:
        yield list(locks)
    finally:
        _holding.reset(before)
        _release(locks.values())


def _candidates(wanted: int | Sequence[str] | None, visible: Callable[[], Sequence[str]]) -> tuple[list[str], int]:
    """Names to choose from, sorted, and how many of them are needed."""
    if wanted is not None and not isinstance(wanted, int):
        return sorted(set(wanted)), len(set(wanted))
    names = sorted(visible())
    count = len(names) if wanted is None else wanted
    if names and count > len(names):
        raise ConfigError(
            f"{wanted} GPUs are wanted, but this process sees {len(names)}: {', '.join(names)}. "
            "Ask for fewer, or let CUDA_VISIBLE_DEVICES name more"
        )
    return names, count if names else 0


def _wait(folder: Path, candidates: Sequence[str], count: int) -> dict[str, io.FileIO]:
    """Locks on `count` GPUs, by name."""
    told = ""
    while True:
        locks, busy = _try(folder, candidates, count)
        if locks:
            return locks
        waiting = f"waiting for {count} of {len(candidates)} GPUs: " + ", ".join(_who(folder, name) for name in busy)
        if waiting != told:
            log.info("%s", waiting)
            told = waiting
        time.sleep(POLL_S)


def _try(folder: Path, candidates: Sequence[str], count: int) -> tuple[dict[str, io.FileIO], list[str]]:
    """Locks on `count` GPUs, or none; and which GPUs others hold."""
    locks: dict[str, io.FileIO] = {}
    busy: list[str] = []
    turn = _lock(folder / "turn")  # two that try together could each get a part and both give up, again and again
    for name in candidates:
        if len(locks) == count:
            break
        try:
            locks[name] = _lock(_path(folder, name), fcntl.LOCK_NB)
        except BlockingIOError:
            busy.append(name)
    if len(locks) < count:
        _release(locks.values())
        locks = {}
    _sign(locks.values())
    _release([turn])
    return locks, busy


def _lock(path: Path, how: int = 0) -> io.FileIO:
    """The file, locked until it is closed or its process dies. With LOCK_NB raises BlockingIOError if it is taken."""
    file = _open(path)
    fcntl.flock(file, fcntl.LOCK_EX | how)
    _locked.add(file)
    return file


def _open(path: Path) -> io.FileIO:
    """A file that all users of the machine may write, in a folder where none can delete another's."""
    try:
        if not path.parent.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.parent.chmod(FOLDER_MODE)
        while not path.exists():
            with contextlib.suppress(FileExistsError):
                made = os.open(path, os.O_CREAT | os.O_EXCL)
                os.fchmod(made, FILE_MODE)
                os.close(made)
        return io.FileIO(os.open(path, os.O_RDWR | os.O_NOFOLLOW), "r+")
    except OSError as error:
        raise ConfigError(f"cannot lock a GPU: {error}. Let LIGHTGEN_GPU_LOCKS name a folder of yours") from error


def _release(locks: Iterable[io.FileIO]) -> None:
    for lock in locks:
        lock.close()


def _sign(locks: Iterable[io.FileIO]) -> None:
    """Say who holds them, for those who wait."""
    for lock in locks:
        lock.truncate(0)
        lock.write(b"%d" % os.getpid())


def _who(folder: Path, name: str) -> str:
    pid = _path(folder, name).read_bytes()[:20]
    return f"{name} (process {int(pid)} has it)" if pid.isdigit() else name


def _path(folder: Path, name: str) -> Path:
    return folder / (re.sub(r"[^\w-]", "_", name) + ".lock")


def _forget_locks() -> None:
    """A forked child shares its parent's locks and would keep them after the parent's death: it lets them go."""
    _release(_locked)


os.register_at_fork(after_in_child=_forget_locks)
