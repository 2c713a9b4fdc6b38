"""What every worker does, whatever started it: take a shard that nobody has made, make it, commit it, go on."""

import logging
import random
from pathlib import Path

from lightgen.engines.provenance import provenance
from lightgen.progress import Progress
from lightgen.storage.receipts import Origin, Stopwatch, commit_shard, find_receipt, read_receipts
from lightgen.work import MakeShard, Work, Worker, open_work

log = logging.getLogger(__name__)


def work_loop(work: Work, worker: Worker) -> None:
    """Make shards of `work` until all have receipts."""
    plan = work.plan
    done = read_receipts(worker.store, plan)
    missing = [shard for shard in range(plan.n_shards) if shard not in done]
    if not missing:
        return
    if done:
        log.info("%s: %d of %d shards are there already", plan.stage, len(done), plan.n_shards)
    # Two workers then meet rarely on one shard; no result depends on the order.
    random.shuffle(missing)
    counted = Counted(worker.progress)
    make = open_work(work, Worker(worker.store, worker.device, counted))
    origin = Origin(work.parents, provenance(worker.device))
    for shard in missing:
        _make_one(work, worker, shard, make, origin, counted)


def _make_one(work: Work, worker: Worker, shard: int, make: MakeShard, origin: Origin, counted: "Counted") -> None:
    plan = work.plan
    receipt = find_receipt(worker.store, plan, shard)
    if receipt is None:
        watch = Stopwatch.start()
        receipt = commit_shard(worker.store, plan, shard, make(shard), origin, watch)
    if work.needs.sort != "job":
        counted.settle(receipt.rows_in)


class Counted:
    """Progress that a stage reports while it makes a shard, made up to the shard's rows when it is done."""

    def __init__(self, progress: Progress) -> None:
        self.progress, self.told = progress, 0

    def start(self, title: str, total: int, unit: str, done: int = 0) -> None:
        """See `Progress.start`."""
        self.progress.start(title, total, unit, done)

    def advance(self, count: int, note: str = "") -> None:
        """`count` rows more of the shard in work."""
        self.told += count
        self.progress.advance(count, note)

    def picture(self, path: Path) -> None:
        """See `Progress.picture`."""
        self.progress.picture(path)

    def finish(self) -> None:
        """See `Progress.finish`."""
        self.progress.finish()

    def settle(self, rows_in: int) -> None:
        """The shard took in `rows_in` rows in all."""
        if rows_in != self.told:
            self.progress.advance(rows_in - self.told)
        self.told = 0
