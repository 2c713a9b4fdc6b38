"""The trial of a rule of choice, counted in plain Python."""

import itertools

import numpy as np
import pytest

from lightgen.bench.captions import real_shaped
from lightgen.decisions.choice import Balance, Candidates, choose
from lightgen.decisions.chosen_coverage import TRIED, chosen_coverage
from lightgen.decisions.concepts import all_concepts
from lightgen.decisions.far_apart import terms_of
from lightgen.decisions.shingles import Shingles, read_words

WORDS = read_words([str(one) for one in real_shaped(2000, seed=1)])
CONCEPTS, TERMS = all_concepts().found(WORDS), terms_of(WORDS)


def pairs(rows: np.ndarray) -> list[tuple[int, int]]:
    return [pair for row in rows for pair in itertools.combinations(CONCEPTS.of(row).tolist(), 2)]


def test_shares_are_those_counted_by_hand() -> None:
    found = chosen_coverage(TERMS, CONCEPTS, Balance(), 0.1)
    assert found is not None
    assert (found.candidates, found.count, found.asked) == (1600, 160, 400)
    rows, asked = np.arange(1600), pairs(np.arange(1600, 2000))
    lots = rows.astype(np.uint64) * np.uint64(2**64 // 1600)
    given = Candidates(lots, rows, TERMS, CONCEPTS.take(rows), np.zeros(1600, bool))
    for share, some in ((found.chosen, choose(Balance(), given, 160)[0]), (found.by_lot, rows[:160])):
        shown = set(pairs(some))
        assert share == pytest.approx(sum(pair in shown for pair in asked) / len(asked))
    assert found.chosen > found.by_lot


def test_all_of_them_are_no_choice() -> None:
    found = chosen_coverage(TERMS, CONCEPTS, Balance(), 1.0)
    assert found is not None
    assert found.chosen == found.by_lot


def test_no_pair_no_share_and_no_more_than_a_few_captions_are_tried() -> None:
    nothing = Shingles(np.zeros(0, np.uint32), np.zeros(2001, np.int64))
    assert chosen_coverage(TERMS, nothing, Balance(), 0.5) is None
    many = np.arange(3 * TRIED) % 2000
    found = chosen_coverage(TERMS.take(many), CONCEPTS.take(many), Balance(), 0.01)
    assert found is not None
    assert found.candidates + found.asked == TRIED
