"""Worker processes that read batches ahead of training, in the order of the steps, into shared memory.

The shared memory is one ring with a slot for every step in work. It is made once, because fresh shared memory costs
more than reading into it. The worker of a step fills slot `step % slots` and reports the step. Batches are views of
their slot.
"""

import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing import util
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lightgen.engines.lifetime import exit_with_parent
from lightgen.errors import ConfigError, TrainingFailed
from lightgen.training.data import Batch
from lightgen.training.layout import BatchLayout

ReadInto = Callable[[int, list[Batch]], None]
SHARED_MEMORY = "/dev/shm"
LAST = -100  # of finalizers of multiprocessing, whose own are -5 and above


def slots(workers: int, prefetch: int) -> int:
    """Slots of the ring of a `Prefetcher`."""
    # Beside the steps being read, one for the step in use, and one for the step before: copies of it to a GPU may still
    # be under way when the next is asked for.
    return workers * prefetch + 2


class Prefetcher:
    """The microbatches of every step from `first` on, read up to `workers * prefetch` steps ahead.

    `read_into` writes the microbatches of a step and must be picklable. With `pin` the ring is page-locked: a GPU
    copies from it while the CPU goes on. Raises ConfigError where the ring does not fit into shared memory.
    """

    def __init__(
        self,
        read_into: ReadInto,
        layout: BatchLayout,
        microbatches: int,
        first: int,
        workers: int,
        prefetch: int,
        pin: bool,
    ) -> None:
        self.ring = _shared_ring(slots(workers, prefetch), microbatches, layout.nbytes)
        self.layout, self.step = layout, first
        self._pinned = _PinnedMemory(self.ring) if pin else None
        loader = DataLoader(
            _Slots(read_into, layout, self.ring),
            batch_size=None,
            sampler=itertools.count(first),
            num_workers=workers,
            prefetch_factor=prefetch,
            # A forked child of a process that uses a GPU must not touch it, not even by accident.
            multiprocessing_context="forkserver" if torch.cuda.is_initialized() else "fork",
            worker_init_fn=partial(_init_worker, os.getpid()),
            # Else each start draws from torch's own generator, and workers would change what training draws.
            generator=torch.Generator(),
        )
        self._steps: Iterator[int] | None = iter(loader)

    def next(self) -> list[Batch]:
        """The microbatches of the next step, valid until the next call. Raises TrainingFailed if a worker has died."""
        assert self._steps is not None, "closed"
        # An error leaves no step to go on with: the next one wanted starts new workers.
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
        return _batches(self.layout, self.ring, found)

    def close(self) -> None:
        """End the workers. Batches that were handed out stay readable."""
        if self._steps is not None:
            # Dropping the iterator does the same, but the traceback of an error may hold it.
            self._steps._shutdown_workers()  # pyright: ignore[reportAttributeAccessIssue]
            self._steps = None
        if self._pinned:
            self._pinned.release()
            self._pinned = None


class _Slots(Dataset[int]):
    """Item `step` is the step itself, once its slot is filled."""

    def __init__(self, read_into: ReadInto, layout: BatchLayout, ring: Tensor) -> None:
        self.read_into, self.layout, self.ring = read_into, layout, ring

    def __getitem__(self, step: int) -> int:
        self.read_into(step, _batches(self.layout, self.ring, step))
        return step


class _PinnedMemory:
    """Page-locked memory, from which a GPU copies while the CPU goes on."""

    def __init__(self, memory: Tensor) -> None:
        self.memory = memory
        self._copied: torch.cuda.Event | None = None
        self._check(_cuda_runtime().cudaHostRegister(memory.data_ptr(), memory.nbytes, 0))

    def wait(self) -> None:
        """Wait until all copies issued before the last call are done."""
        if self._copied:
            self._copied.synchronize()
        self._copied = torch.cuda.Event()
        self._copied.record()

    def release(self) -> None:
        """Unlock the memory."""
        torch.cuda.synchronize()
        self._check(_cuda_runtime().cudaHostUnregister(self.memory.data_ptr()))

    def _check(self, status: Any) -> None:
        if int(status):
            raise ConfigError(
                f"page-locking {self.memory.nbytes:,} bytes failed with CUDA error {int(status)}; lower launch.workers "
                "or the batch, or allow more (ulimit -l)"
            )


def _cuda_runtime() -> Any:
    # torch declares that it may be None, which it is only where torch was built without CUDA.
    return torch.cuda.cudart()


def _shared_ring(slots: int, microbatches: int, nbytes: int) -> UInt8[Tensor, "slots microbatches nbytes"]:
    needed, free = slots * microbatches * nbytes, shutil.disk_usage(SHARED_MEMORY).free
    if needed > free:
        raise ConfigError(
            f"launch.workers: {slots} steps of {microbatches * nbytes:,} bytes do not fit into the {free:,} free of "
            f"{SHARED_MEMORY}; lower launch.workers or the batch, or enlarge it (docker run --shm-size)"
        )
    return torch.zeros(slots, microbatches, nbytes, dtype=torch.uint8).share_memory_()


def _batches(layout: BatchLayout, ring: UInt8[Tensor, "slots microbatches nbytes"], step: int) -> list[Batch]:
    return [layout.view(buffer) for buffer in ring[step % len(ring)]]


def _init_worker(parent: int, worker: int) -> None:
    """First act of a worker: without its parent it would read for nobody."""
    exit_with_parent(parent)
    # Libraries of the parent register what is to be done at its end, and wait for threads that a fork does not have:
    # Prefect's log fails there, and with it the worker. So a worker ends as soon as its own queues are flushed.
    util.Finalize(None, os._exit, args=(0,), exitpriority=LAST)
