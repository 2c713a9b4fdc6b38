"""Rules of choice: shares of parts, balance against its definition, and the same choice whatever the threads."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lightgen.bench.captions import real_shaped
from lightgen.decisions.choice import (
    Balance,
    BalancedParts,
    Candidates,
    KCenter,
    Parts,
    balanced,
    choose,
    shared_out,
    too_many,
)
from lightgen.decisions.concepts import all_concepts
from lightgen.decisions.far_apart import terms_of
from lightgen.decisions.shingles import ends_of, read_words

ROOT = Path(__file__).parents[3]


def candidates(texts: list[str], kept: list[int] = ()) -> Candidates:  # pyright: ignore[reportArgumentType]
    words = read_words(texts)
    held = np.zeros(len(texts), bool)
    held[list(kept)] = True
    lots = np.random.default_rng(5).integers(2**63, size=len(texts)).astype(np.uint64)
    return Candidates(lots, np.arange(len(lots)), terms_of(words), all_concepts().found(words), held)


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return list(dict.fromkeys(real_shaped(700).to_pylist()))[:600]


def test_parts_take_their_share_and_together_the_count(texts: list[str]) -> None:
    given = candidates(texts, [3, 5, 7, 9, 11])
    for rule in (Parts(part_rows=50), Balance(), BalancedParts(part_rows=50), KCenter()):
        for count in (1, 37, 600, 10_000):
            order, _ = choose(rule, given, count)
            assert len(set(order.tolist())) == len(order) == max(5, min(count, 600))
            assert {3, 5, 7, 9, 11} <= set(order.tolist())
    assert len(choose(Parts(), candidates([]), 5)[0]) == 0
    assert shared_out(10, np.array([5, 5, 90])).tolist() == [1, 0, 9]
    assert shared_out(0, np.array([0, 0])).tolist() == [0, 0]


def test_one_part_is_k_center(texts: list[str]) -> None:
    given = candidates(texts)
    whole, parts = (choose(rule, given, 100) for rule in (KCenter(), Parts(part_rows=600)))
    assert (whole[0] == parts[0]).all()
    assert (np.diff(whole[1]) <= 1e-9).all()
    assert not np.array_equal(whole[0], choose(Parts(part_rows=100), given, 100)[0])


def test_balance_keeps_rare_concepts_as_its_formula_says() -> None:
    """Each caption has one concept: of n_c captions about t stay where n_c is more, and all where it is less."""
    names = [["red"] * 4000, ["blue"] * 1000, ["teal"] * 100, ["zqx"] * 2000]
    given = candidates([one for group in names for one in group])
    group = np.repeat(np.arange(4), [len(one) for one in names])
    order = balanced(given)
    for count in (400, 1300, 3100):
        taken = np.bincount(group[order[:count]], minlength=4)
        t = taken[0]
        for found, size in zip(taken, (4000, 1000, 100, 2000), strict=True):
            assert found == pytest.approx(min(t, size), abs=4 * np.sqrt(t) + 1)
    by_lot = np.bincount(group[np.argsort(given.lots)[:400]], minlength=4)
    assert by_lot[2] < 20 < np.bincount(group[order[:400]], minlength=4)[2], "lots alone would do"


def test_a_caption_of_several_concepts_stays_for_its_rarest() -> None:
    common, rare = ["a red dog"] * 2000, ["a red dog with a tuba horn near a pagoda"] * 20
    order = balanced(candidates([*common, *rare]))
    assert (order[:60] >= 2000).sum() == 20


def test_k_center_refuses_what_it_would_take_hours_for() -> None:
    (problem,) = too_many(KCenter(), 10_000_000)
    assert "10,000,000" in problem.what
    assert "parts" in problem.fix
    assert list(too_many(KCenter(), 200_000)) == list(too_many(Parts(), 10_000_000)) == []


def test_concepts_are_whole_words_the_longest_first_and_plurals_too() -> None:
    concepts = all_concepts()

    def found(text: str) -> set[str]:
        return {concepts.names[number][1] for number in concepts.found(read_words([text])).of(0)}

    assert found("a traffic light in front of 2 puppies") == {"traffic light", "in front of", "2", "puppy"}
    assert found("category scattered foxhole") == set()
    assert found("Benches, people & an ice cream") == {"bench", "person", "ice cream"}
    assert len(concepts.names) > 1500
    assert concepts.found(read_words([])).offsets.tolist() == ends_of(np.zeros(0)).tolist()


THREADS = """
import hashlib
from tests.lightgen.decisions.test_choice import candidates
from lightgen.bench.captions import real_shaped
from lightgen.decisions.choice import BalancedParts, choose
order, novelty = choose(BalancedParts(part_rows=100), candidates(real_shaped(2000).to_pylist()), 500)
print(hashlib.sha256(order.tobytes() + novelty.tobytes()).hexdigest())
"""


def test_the_number_of_threads_changes_no_bit() -> None:
    runs = [
        subprocess.run(
            [sys.executable, "-c", THREADS], capture_output=True, text=True, check=True, cwd=ROOT,
            env={**os.environ, "NUMBA_NUM_THREADS": threads, "PYTHONPATH": str(ROOT)},
        ).stdout
        for threads in ("1", "2")
    ]  # fmt: skip
    assert runs[0] == runs[1] != ""
