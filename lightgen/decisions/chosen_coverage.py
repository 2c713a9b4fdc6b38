"""Whether a rule of choice shows more than the lot does, tried on a few captions."""

from dataclasses import dataclass

import numpy as np

from lightgen.decisions.choice import PART_ROWS, Candidates, ChoiceConfig, choose
from lightgen.decisions.growth import pairs_met
from lightgen.decisions.shingles import Shingles

TRIED = 5 * PART_ROWS  # captions: four parts to choose from, and one to ask about


@dataclass(frozen=True)
class ChosenCoverage:
    """Of the pairs of concepts in `asked` captions, the shares that `count` of `candidates` others show, 0 to 1."""

    candidates: int
    count: int
    asked: int
    chosen: float
    by_lot: float


def chosen_coverage(terms: Shingles, concepts: Shingles, rule: ChoiceConfig, share: float) -> ChosenCoverage | None:
    """Take `share` of captions, which stand in random order, by the rule and by lot.

    Of the first TRIED captions four of five are candidates. None where the others speak of no pair. Time: seconds.
    """
    texts = min(TRIED, len(terms.offsets) - 1)
    candidates = texts * 4 // 5
    count = max(1, round(candidates * share))
    rows = np.arange(candidates)
    given = Candidates(
        rows.astype(np.uint64) * np.uint64(2**64 // candidates), rows, terms, concepts.take(rows),
        np.zeros(candidates, bool),
    )  # fmt: skip
    asked = pairs_met(concepts.take(np.arange(candidates, texts)))
    if not asked.any():
        return None
    chosen, lot = (
        float(asked[pairs_met(concepts.take(some)) > 0].sum() / asked.sum())
        for some in (choose(rule, given, count)[0], rows[:count])
    )
    return ChosenCoverage(candidates, count, texts - candidates, chosen, lot)
