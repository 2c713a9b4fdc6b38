"""Which captions become prompts: no repeats, nothing of the evaluation, and a diverse choice of the rest."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int8, Int32, Int64

from lightgen.decisions.choice import Candidates, ChoiceConfig, choose
from lightgen.decisions.diversity import diversity
from lightgen.decisions.equal_words import first_of_equal
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
    `like` says which of some captions, from the highest priority down, mean the same as another. Memory: about 100
    bytes a caption, and what near-duplicates and the choice take.
    """
    n = len(given.ids)
    reason, twin = np.zeros(n, np.int8), np.full(n, -1, np.int64)
    records = in_order(given.ids)
    first = first_of_equal(given.equal, records[np.argsort(~kept[records], kind="stable")])
    repeats = first != np.arange(n)
    reason[list(given.why)] = CONTAMINATED
    reason[repeats], twin[repeats] = EXACT, first[repeats]
    by_id = in_order(given.caption_ids)
    by_id = by_id[np.argsort(~kept[by_id], kind="stable")]
    summary: Summary = {"captions": rows, "kept": int(kept[:rows].sum())}
    if near is not None:
        alive = by_id[reason[by_id] == CHOSEN]
        found = refuse_near(given.marks, alive, near)
        summary |= {"pairs_compared": found.compared, "pairs_skipped": found.skipped}
        summary["near_recall"] = recall(given.marks, alive, near)._asdict()
        refused = np.flatnonzero(found.refused >= 0)
        reason[refused], twin[refused] = NEAR, found.refused[refused]
    if like is not None:
        alive = by_id[reason[by_id] == CHOSEN]
        found, sure = like(alive)
        summary |= {"semantic_compared": found.compared, "semantic_skipped": found.skipped}
        summary["semantic_recall"] = sure._asdict()
        refused = np.flatnonzero(found.refused >= 0)
        reason[alive[refused]], twin[alive[refused]] = SEMANTIC, alive[found.refused[refused]]
    alive = by_id[reason[by_id] == CHOSEN]
    terms, concepts = given.terms.take(alive), given.concepts.take(alive)
    candidates = Candidates(given.caption_ids[alive, 0], terms, concepts, kept[alive])
    outside = int((alive >= rows).sum())
    order, distance = choose(rule, candidates, len(alive) if count is None else count + outside)
    within = alive[order] < rows
    order, distance = order[within], distance[within]
    chosen, rank, novelty = alive[order], np.full(n, -1, np.int32), np.zeros(n, np.float32)
    reason[alive] = NOT_CHOSEN
    reason[chosen], rank[chosen], novelty[chosen] = CHOSEN, np.arange(len(order)), distance
    summary |= {"left": len(alive) - outside, "chosen": len(order)}
    counts = np.bincount(reason[:rows], minlength=len(REASONS))
    summary |= {REASONS[code]: int(number) for code, number in enumerate(counts) if number and code != CHOSEN}
    summary |= diversity(given, by_id, candidates, order, dim)
    return Selection(reason, twin, rank, novelty, summary)
