"""Processes that read batches ahead, in the order of the steps, into memory that all of them share.

Every batch in work has a slot of one ring, made once: fresh shared memory costs more than reading into it. A worker
fills slot `step % slots` and reports the step; batches are views of their slot.
"""

import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lightgen.engines.lifetime import die_with
from lightgen.errors import ConfigError, TrainingFailed
from lightgen.training.data import Batch
from lightgen.training.packing import Packing

Fill = Callable[[int, list[Batch]], None]
SHARED = "/dev/shm"


class Ahead:
    """The batches of every step from `first` on, `workers * prefetch` steps ahead of the one that is asked for.

    `fill` writes the pieces of a step and must be picklable. With `pin` the ring is page-locked: a GPU copies from it
    while the CPU goes on. Raises ConfigError where the ring does not fit into shared memory.
    """

    def __init__(
        self, fill: Fill, packing: Packing, pieces: int, first: int, workers: int, prefetch: int, pin: bool
    ) -> None:
        # One slot more than are in work, for the step that is being used, and one for the step before: copies of it to
        # a GPU may still be under way when the next is asked for.
        self.ring = _shared(workers * prefetch + 2, pieces, packing.size)
        self.packing, self.step = packing, first
        self._pinned = _Pinned(self.ring) if pin else None
        loader = DataLoader(
            _Slots(fill, packing, self.ring),
            batch_size=None,
            sampler=itertools.count(first),
            num_workers=workers,
            prefetch_factor=prefetch,
            # A forked child of a process that uses a GPU must not touch it, not even by accident.
            multiprocessing_context="forkserver" if torch.cuda.is_initialized() else "fork",
            worker_init_fn=partial(_begin, os.getpid()),
            # Else each start draws from torch's own generator, and workers would change what training draws.
            generator=torch.Generator(),
        )
        self._steps: Iterator[int] | None = iter(loader)

    def next(self) -> list[Batch]:
        """The pieces of the next step, valid until the next call. Raises TrainingFailed where a worker has died."""
        assert self._steps is not None, "closed"
        # An error leaves no step to go on with: the next one wanted starts workers anew.
        due, self.step = self.step, -1
        if self._pinned:
            self._pinned.wait()
        try:
            found = next(self._steps)
        except RuntimeError as error:
            if not str(error).startswith("DataLoader worker (pid"):
                raise
            raise TrainingFailed(
                f"a process that reads features ahead has died ({error}); memory may be short: lower launch.workers "
                "or the batch, then start again: training goes on from its newest checkpoint"
            ) from error
        assert found == due, f"step {found} came, {due} was due"
        self.step = due + 1
        return _batches(self.packing, self.ring, found)

    def close(self) -> None:
        """End the workers; batches that were handed out stay readable."""
        if self._steps is not None:
            # Dropping the iterator does the same, but the traceback of an error may hold it.
            self._steps._shutdown_workers()  # pyright: ignore[reportAttributeAccessIssue]
            self._steps = None
        if self._pinned:
            self._pinned.release()
            self._pinned = None


class _Slots(Dataset[int]):
    """Item `step` is the step itself, once its slot is filled."""

    def __init__(self, fill: Fill, packing: Packing, ring: Tensor) -> None:
        self.fill, self.packing, self.ring = fill, packing, ring

    def __getitem__(self, step: int) -> int:
        self.fill(step, _batches(self.packing, self.ring, step))
        return step


class _Pinned:
    """Page-locked memory that a GPU reads while the CPU goes on."""

    def __init__(self, memory: Tensor) -> None:
        self.memory = memory
        self._copied: torch.cuda.Event | None = None
        self._check(_runtime().cudaHostRegister(memory.data_ptr(), memory.nbytes, 0))

    def wait(self) -> None:
        """Until all copies issued before the last call are done."""
        if self._copied:
            self._copied.synchronize()
        self._copied = torch.cuda.Event()
        self._copied.record()

    def release(self) -> None:
        """Unlock the memory."""
        torch.cuda.synchronize()
        self._check(_runtime().cudaHostUnregister(self.memory.data_ptr()))

    def _check(self, status: Any) -> None:
        if int(status):
            raise ConfigError(
                f"page-locking {self.memory.nbytes:,} bytes failed with CUDA error {int(status)}; lower launch.workers "
                "or the batch, or allow more (ulimit -l)"
            )


def _runtime() -> Any:
    # torch declares that it may be None, which it is only where torch was built without CUDA.
    return torch.cuda.cudart()


def _shared(slots: int, pieces: int, size: int) -> UInt8[Tensor, "slots pieces size"]:
    needed, free = slots * pieces * size, shutil.disk_usage(SHARED).free
    if needed > free:
        raise ConfigError(
            f"launch.workers: {slots} steps of {pieces * size:,} bytes do not fit into the {free:,} free of {SHARED}; "
            "lower launch.workers or the batch, or enlarge it (docker run --shm-size)"
        )
    return torch.zeros(slots, pieces, size, dtype=torch.uint8).share_memory_()


def _batches(packing: Packing, ring: UInt8[Tensor, "slots pieces size"], step: int) -> list[Batch]:
    return [packing.views(piece) for piece in ring[step % len(ring)]]


def _begin(parent: int, worker: int) -> None:
    """First act of a worker: orphans would read for nobody."""
    die_with(parent)
