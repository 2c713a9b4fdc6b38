"""Which captions become prompts: no repeats, nothing of the evaluation, and a diverse choice of the rest."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int8, Int32, Int64

from lightgen.decisions.choice import Candidates, ChoiceConfig, choose
from lightgen.decisions.diversity import diversity
from lightgen.decisions.equal_words import first_of_equal
from lightgen.decisions.mapped import forget
from lightgen.decisions.near_duplicates import NearDuplicateConfig, NearDuplicates, refuse_near
from lightgen.decisions.recall import Recall, recall
from lightgen.decisions.sketch import Sketch, in_order

REASONS = ("", "duplicate_exact", "contaminated", "duplicate_near", "duplicate_semantic", "not_chosen")
CHOSEN, EXACT, CONTAMINATED, NEAR, SEMANTIC, NOT_CHOSEN = range(len(REASONS))
Summary = dict[str, Any]
Like = Callable[[Int64[np.ndarray, " k"]], tuple[NearDuplicates, Recall]]


@dataclass(frozen=True)
class Selection:
    """What becomes of every caption, in the order of the sketch.

    reason: place in REASONS; CHOSEN is 0
    twin: the caption that stays in the place of a repeat, else -1
    rank: order of choice, else -1
    novelty: distance to those chosen before, 0 to 1; NaN where the rule of choice knows none
    """

    reason: Int8[np.ndarray, " n"]
    twin: Int64[np.ndarray, " n"]
    rank: Int32[np.ndarray, " n"]
    novelty: Float32[np.ndarray, " n"]
    summary: Summary = field(default_factory=dict)


def select_captions(
    given: Sketch,
    kept: Bool[np.ndarray, " n"],
    rows: int,
    near: NearDuplicateConfig | None,
    rule: ChoiceConfig,
    count: int | None,
    dim: int,
    like: Like | None = None,
) -> Selection:
    """The verdicts on all captions, whatever their order.

    Captions that are `kept` stay before all others; then of equal captions the smallest record stays, of near ones the
    smallest caption_id. Those from `rows` on are no captions of this version: they only stand in the way of others.
    `like` says which of some captions, from the highest priority down, mean the same as another. Memory: about 130
    bytes a caption, and what near-duplicates and the choice take.
    """
    verdicts = _Verdicts(given, kept)
    verdicts.refuse_equal()
    summary: Summary = {"captions": rows, "kept": int(kept[:rows].sum())}
    if near is not None:
        summary |= verdicts.refuse_near(near)
    if like is not None:
        summary |= verdicts.refuse_like(like)
    reason, alive = verdicts.reason, verdicts.alive()
    lots, concepts = np.ascontiguousarray(given.caption_ids[alive, 0]), given.concepts.take(alive)
    forget(given.caption_ids)
    candidates = Candidates(lots, alive, given.terms, concepts, kept[alive])
    outside = int((alive >= rows).sum())
    order, distance = choose(rule, candidates, len(alive) if count is None else count + outside)
    within = alive[order] < rows
    order, distance = order[within], distance[within]
    n = len(reason)
    chosen, rank, novelty = alive[order], np.full(n, -1, np.int32), np.zeros(n, np.float32)
    reason[alive] = NOT_CHOSEN
    reason[chosen], rank[chosen], novelty[chosen] = CHOSEN, np.arange(len(order)), distance
    summary |= {"left": len(alive) - outside, "chosen": len(order)}
    counts = np.bincount(reason[:rows], minlength=len(REASONS))
    summary |= {REASONS[code]: int(number) for code, number in enumerate(counts) if number and code != CHOSEN}
    summary |= diversity(given, verdicts.by_id, candidates, order, dim)
    return Selection(reason, verdicts.twin, rank, novelty, summary)


class _Verdicts:
    """What has become of every caption so far; captions are looked at from the highest priority down."""

    def __init__(self, given: Sketch, kept: Bool[np.ndarray, " n"]) -> None:
        self.given, self.kept = given, kept
        self.reason, self.twin = np.zeros(len(kept), np.int8), np.full(len(kept), -1, np.int64)
        self.by_id = self._kept_first(in_order(given.caption_ids))

    def alive(self) -> Int64[np.ndarray, " k"]:
        """The captions that nothing has refused."""
        return self.by_id[self.reason[self.by_id] == CHOSEN]

    def refuse_equal(self) -> None:
        """Contaminated captions, and those that repeat the words of another."""
        first = first_of_equal(self.given.equal, self._kept_first(in_order(self.given.ids)))
        forget(self.given.equal)
        self.reason[list(self.given.why)] = CONTAMINATED
        repeats = np.flatnonzero(first != np.arange(len(first)))
        self._refuse(repeats, EXACT, first[repeats])

    def refuse_near(self, config: NearDuplicateConfig) -> Summary:
        """Near-duplicates of captions that stay."""
        alive = self.alive()
        found = refuse_near(self.given.marks, alive, config)
        sure = recall(self.given.marks, alive, config, stays=found.refused < 0)
        refused = np.flatnonzero(found.refused >= 0)
        self._refuse(refused, NEAR, found.refused[refused])
        return {"pairs_compared": found.compared, "pairs_skipped": found.skipped, "near_recall": sure._asdict()}

    def refuse_like(self, like: Like) -> Summary:
        """Captions that mean the same as one that stays."""
        alive = self.alive()
        found, sure = like(alive)
        refused = np.flatnonzero(found.refused >= 0)
        self._refuse(alive[refused], SEMANTIC, alive[found.refused[refused]])
        told = {"semantic_compared": found.compared, "semantic_skipped": found.skipped}
        return told | {"semantic_recall": sure._asdict()}

    def _refuse(self, rows: Int64[np.ndarray, " k"], code: int, twins: Int64[np.ndarray, " k"]) -> None:
        self.reason[rows], self.twin[rows] = code, twins

    def _kept_first(self, order: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        return order[np.argsort(~self.kept[order], kind="stable")] if self.kept.any() else order
