"""What every worker does, whatever started it: claim a unit, make its shards, commit them, claim the next."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property

from lightgen.engines.acceptance import Acceptance
from lightgen.engines.board import ShardProgress
from lightgen.engines.claims import Claims, Pace
from lightgen.engines.heartbeats import Heart, Heartbeats
from lightgen.engines.provenance import provenance
from lightgen.storage.receipts import Origin, Stopwatch, commit_shard, done_shards, find_receipt
from lightgen.work import MakeShard, Work, Worker, open_work

log = logging.getLogger(__name__)


def work_loop(
    work: Work,
    worker: Worker,
    progress: ShardProgress,
    pace: Pace | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Make shards of `work` until all have receipts, or until `stop` says so between two units.

    Whatever ends it early frees the claim that it holds: the others go on.
    """
    store, plan, units = worker.store, work.plan, units_of(work)

    def finished() -> set[str]:
        done = done_shards(store, plan)
        return {unit for unit, shards in units.items() if done.issuperset(shards)}

    if finished() == units.keys():
        return
    maker = _Maker(work, worker, progress)
    with Heart(Heartbeats(store.files, plan.folder), worker.id) as heart:
        claims = Claims(heart.beats, worker.id, units, finished, pace)
        while (claim := claims.take(stop)) is not None:
            if not maker.make_unit(units[claim.unit]):
                claims.give_back(claim)


def units_of(work: Work) -> dict[str, Sequence[int]]:
    """What one worker takes at a time, with its shards: one shard of a map, all of a decision or a job.

    A job that runs on several machines at once is as many units, all with the same shards.
    """
    plan, needs = work.plan, work.needs
    if needs.sort == "map":
        return {f"{shard:05d}": [shard] for shard in range(plan.n_shards)}
    return {f"all-{machine}": range(plan.n_shards) for machine in range(needs.machines)}


class _Maker:
    """Makes and commits shards; what that needs, such as a model, is loaded for the first of them."""

    def __init__(self, work: Work, worker: Worker, progress: ShardProgress) -> None:
        self.work, self.progress, self.store = work, progress, worker.store
        self.worker = replace(worker, progress=progress)
        self.acceptance = Acceptance(work.plan.stage, work.max_reject_fraction)

    def make_unit(self, shards: Sequence[int]) -> bool:
        """Whether any of `shards` was still to be made."""
        made = [self._make_one(shard) for shard in shards]
        return any(made)

    def _make_one(self, shard: int) -> bool:
        plan = self.work.plan
        receipt = find_receipt(self.store, plan, shard)
        made = receipt is None
        if receipt is None:
            make_shard = self._make_shard
            self.progress.begin(shard)
            watch = Stopwatch.start()
            receipt = commit_shard(self.store, plan, shard, make_shard(shard), self._origin, watch)
            if self.work.needs.sort == "map":
                self.acceptance.add(receipt)
        self.progress.settle(shard, receipt.rows_in)
        return made

    @cached_property
    def _make_shard(self) -> MakeShard:
        return open_work(self.work, self.worker)

    @cached_property
    def _origin(self) -> Origin:
        return Origin(self.work.parents, provenance(self.worker.device))
