"""The process of a worker: it takes one work after the other from its parent, and ends when that closes the pipe."""

import gc
import logging
import sys

from lightgen.engines.join import join
from lightgen.engines.lifetime import exit_with_parent
from lightgen.engines.lines import PrintedProgress, refuse
from lightgen.errors import LightgenError
from lightgen.work import Work


class PrintedShards(PrintedProgress):
    """`ShardProgress` as lines."""

    def begin(self, shard: int) -> None:
        """See `ShardProgress.begin`."""
        self.say("begin", shard)

    def settle(self, shard: int, rows: int) -> None:
        """See `ShardProgress.settle`; ticks that were not told yet are among the rows."""
        self.count = 0
        self.say("settle", shard, rows)


def main(device: str, parent: int) -> None:
    """Work on `device`, the only one in view, for the process `parent`."""
    exit_with_parent(parent)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for line in sys.stdin:
        _take_part(Work.load(line), device)
        _free_memory(device)


def _take_part(work: Work, device: str) -> None:
    progress = PrintedShards()
    progress.say("work", work.plan.version)
    try:
        join(work, device, progress)
    except LightgenError as error:
        refuse(error)
        sys.exit(1)
    progress.say("done")


def _free_memory(device: str) -> None:
    """The models of a stage must not stay on the GPU beside those of the next."""
    gc.collect()
    if device == "cuda":
        import torch

        torch.cuda.empty_cache()
