"""Figures of agreement against independent oracles: SciPy, published examples, definitions written out, coverage."""

import itertools
import math
from collections import Counter
from random import Random

import numpy as np
import pytest
from scipy import stats

from lightgen.decisions.agreement import FEW, Estimate, acceptance, alpha, kappa, share, spearman


@pytest.mark.parametrize(("right", "n"), [(0, 1), (1, 1), (0, 7), (7, 7), (3, 10), (199, 200), (5000, 9000)])
def test_a_share_has_wilsons_interval_as_scipy_computes_it(right: int, n: int) -> None:
    found, expected = share(right, n), stats.binomtest(right, n).proportion_ci(method="wilson")
    assert found is not None
    assert (found.n, found.value) == (n, right / n)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.low <= found.value <= found.high


def test_nothing_has_no_figure() -> None:
    assert share(0, 0) is None
    assert kappa({}, 0) is None
    assert alpha([], 0) is None
    assert alpha([["a"], ["b"]], 0) is None
    assert spearman([], [], 0) is None
    assert spearman([1, 2], [1, 2], 0) is None
    assert acceptance({}, {}) == {}


def test_kappa_is_that_of_the_textbook() -> None:
    """Fifty proposals, two readers: 20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no give 0.4 (the usual example)."""
    labels = [("y", "y")] * 20 + [("y", "n")] * 5 + [("n", "y")] * 10 + [("n", "n")] * 15
    found = kappa(Counter(labels), 0)
    assert found is not None
    assert found.value == pytest.approx(0.4)
    assert found.n == 50
    assert 0.05 < found.low < 0.4 < found.high < 0.75


def test_kappa_of_chance_is_about_zero_of_agreement_one_and_of_one_label_none() -> None:
    random = Random(1)
    chance = kappa(Counter([(random.choice("ab"), random.choice("ab")) for _ in range(2000)]), 0)
    assert chance is not None
    assert chance.low < 0 < chance.high
    same = kappa({("a", "a"): 20, ("b", "b"): 20}, 0)
    assert same is not None
    assert (same.value, same.high) == (1, 1)
    assert kappa({("a", "a"): 20}, 0) is None
    # The same share of agreement, but where nearly all is `a` it is worth less.
    skewed = kappa({("a", "a"): 90, ("a", "b"): 5, ("b", "a"): 5}, 0)
    assert skewed is not None
    assert skewed.value < 0


def test_krippendorffs_alpha_is_that_of_his_own_example() -> None:
    """Computing Krippendorff's Alpha-Reliability (2011), C: four observers, twelve units, missing values: 0.743."""
    observers = ("123321412   ", "1233224125 3", " 3332342251 ", "12332441251 ")
    units = [[one for one in unit if one != " "] for unit in zip(*observers, strict=True)]
    found = alpha(units, 0)
    assert found is not None
    assert found.value == pytest.approx(0.743, abs=5e-4)
    assert found.n == 11, "the unit of one rater does not count"


def test_alpha_of_any_labels_is_what_its_definition_says() -> None:
    """Observed against expected disagreement, pair of values by pair of values."""
    random = Random(2)
    units = [[random.choice("aab") for _ in range(random.randint(1, 4))] for _ in range(40)]
    paired = [unit for unit in units if len(unit) > 1]
    values = [one for unit in paired for one in unit]
    observed = sum(
        sum(x != y for x, y in itertools.permutations(unit, 2)) / (len(unit) - 1) for unit in paired
    ) / len(values)  # fmt: skip
    expected = sum(x != y for x, y in itertools.permutations(values, 2)) / len(values) / (len(values) - 1)
    found = alpha(units, 0)
    assert found is not None
    assert found.value == pytest.approx(1 - observed / expected)
    assert alpha([["a", "a"]] * 9, 0) is None
    full = alpha([["a", "a"], ["b", "b"]] * 9, 0)
    assert full is not None
    assert full.value == 1


@pytest.mark.parametrize("count", [50, FEW + 500])
def test_a_rank_correlation_is_scipys_and_its_interval_holds_it(count: int) -> None:
    random = np.random.default_rng(3)
    first = random.integers(0, 9, count).astype(float)
    second = first + random.normal(0, 6, count)
    found = spearman(first.tolist(), second.tolist(), 0)
    assert found is not None
    assert found.value == pytest.approx(float(stats.spearmanr(first, second).statistic))  # pyright: ignore
    assert found.low < found.value < found.high
    # Fisher's interval of about the same width.
    width = math.tanh(math.atanh(found.value) + 1.96 / math.sqrt(count)) - found.value
    assert found.high - found.value == pytest.approx(width, rel=0.35)
    assert spearman(first.tolist(), [1.0] * count, 0) is None


def both(truth: np.ndarray, same: np.ndarray) -> list[tuple[str, str]]:
    """Labels of somebody, and of somebody else who agrees where `same` says so."""
    return [("ab"[one], "ab"[one if agrees else 1 - one]) for one, agrees in zip(truth, same, strict=True)]


def covered(true: float, estimates: list[Estimate]) -> int:
    """How many of the intervals hold what is true."""
    return sum(one.low <= true <= one.high for one in estimates)


def test_intervals_hold_the_truth_as_often_as_they_say_and_those_of_another_figure_do_not() -> None:
    def judges(random: np.random.Generator):
        truth, same = random.integers(0, 2, 300), random.random(300) < 0.8
        return kappa(Counter(both(truth, same)), 5)

    def raters(random: np.random.Generator):
        # Two raters who agree in eight of ten, labels even: alpha 0.6 but for 1 / n.
        truth, same = random.integers(0, 2, 300), random.random(300) < 0.8
        return alpha(both(truth, same), 5)

    def bias(random: np.random.Generator):
        first = random.normal(size=300)
        return spearman(first.tolist(), random.normal(size=300).tolist(), 5, 300)

    for true, draw in ((0.6, judges), (0.6, raters), (0.0, bias)):
        estimates = [draw(np.random.default_rng(seed)) for seed in range(40)]
        assert covered(true, estimates) >= 35
        assert covered(true + 0.25, estimates) <= 4, "null control: the interval is not wide enough for anything"


def test_what_is_kept_of_each_group_is_told_the_largest_first() -> None:
    found = acceptance({"a": 3, "b": 1}, {"a": 1, "c": 2, "d": 0})
    assert {group: (one.value, one.n) for group, one in found.items()} == {"a": (0.75, 4), "c": (0, 2), "b": (1, 1)}
    assert list(found) == ["a", "c", "b"]


def test_the_same_seed_gives_the_same_interval_and_the_order_of_units_does_not_count() -> None:
    labels = [("a", "b"), ("b", "b"), ("a", "a")] * 30
    assert kappa(Counter(labels), 1) == kappa(Counter(labels[::-1]), 1) != kappa(Counter(labels), 2)
    assert alpha(labels, 1) == alpha(labels[::-1], 1)
