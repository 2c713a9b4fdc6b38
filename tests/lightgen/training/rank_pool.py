"""Processes that train together, started once for all tests of a session."""

import multiprocessing
import os
import uuid
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from datetime import timedelta
from pathlib import Path
from typing import Self, TypeVar

import torch
import torch.distributed as dist

from lightgen.engines.lifetime import exit_with_parent
from lightgen.training.ranks import World

T = TypeVar("T")
TIMEOUT = timedelta(seconds=60)  # of a collective; a rank that died or failed closes its connections at once
# Imported once, by the server that the ranks are forked from. No package of ours: the server knows no sys.path.
PRELOADED = ["torch", "torch.distributed.fsdp", "torch.distributed.tensor", "numpy", "pyarrow.parquet", "pydantic"]


class RankPool:
    """Up to `size` ranks, each a process of its own; every call of `run` makes them one new gloo process group.

    Ranks find each other through a file in `folder`, so no port is fixed. A rank that dies is replaced.
    """

    def __init__(self, size: int, folder: Path) -> None:
        self.folder = folder
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(PRELOADED)
        self._ranks = [self._start() for _ in range(size)]

    def run(self, processes: int, job: Callable[..., T], *arguments: object) -> list[T]:
        """`job(world, *arguments)` in ranks 0 to `processes` - 1; raises what the first of them raised."""
        meeting = self.folder / uuid.uuid4().hex
        worlds = [World(rank, processes, rank) for rank in range(processes)]
        futures = [self._ranks[world.rank].submit(_run_in_group, world, meeting, job, arguments) for world in worlds]
        wait(futures)
        for rank, future in enumerate(futures):
            if isinstance(future.exception(), BrokenProcessPool):
                self._ranks[rank].shutdown()
                self._ranks[rank] = self._start()
        return [future.result() for future in futures]

    def _start(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(1, self._context, initializer=exit_with_parent, initargs=(os.getpid(),))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for rank in self._ranks:
            rank.shutdown()


def _run_in_group(world: World, meeting: Path, job: Callable[..., T], arguments: tuple[object, ...]) -> T:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=world.rank, world_size=world.size, timeout=TIMEOUT
    )
    try:
        return job(world, *arguments)
    finally:
        dist.destroy_process_group()
