"""Curves over pairs of concepts: counts against plain Python, bands against populations whose truth is known."""

import itertools
from collections import Counter

import numpy as np
import pytest

from lightgen.decisions.concepts import all_concepts
from lightgen.decisions.growth import LEAST, Growth, growth, pairs_met, saturation
from lightgen.decisions.rarefaction import Frequencies
from lightgen.decisions.shingles import Shingles, ends_of

AMONG = len(all_concepts().names)
SAMPLE = 4000
STEPS = [500, 2000, 4000, 8000, 12_000]
SEEDS = 8


def chances(exponent: float) -> np.ndarray:
    """How likely a caption speaks of each concept; of four on average."""
    weights = np.arange(1, AMONG + 1.0) ** -exponent
    return np.minimum(4 * weights / weights.sum(), 0.6)


def captions(of: np.ndarray, texts: int, seed: int) -> Shingles:
    """Concepts of captions that speak of each by its chance, whatever else they speak of."""
    speaks = np.random.default_rng(seed).random((texts, AMONG)) < of
    return Shingles(np.nonzero(speaks)[1].astype(np.uint32), ends_of(speaks.sum(axis=1)))


def truth(of: np.ndarray, volumes: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Coverage and pairs, by their definition."""
    pairs = np.outer(of, of)[np.triu_indices(AMONG, 1)]
    missed = np.stack([(1 - pairs) ** volume for volume in volumes])
    return 1 - (pairs * missed).sum(axis=1) / pairs.sum(), (1 - missed).sum(axis=1)


@pytest.fixture(scope="module")
def curves() -> list[Growth]:
    return [growth(captions(chances(1.0), SAMPLE, seed), STEPS) for seed in range(SEEDS)]


def at(found: Growth, band: str, end: str) -> np.ndarray:
    return np.array([getattr(getattr(found, band), end)[found.at(step)] for step in STEPS])


def held(curves: list[Growth], true: np.ndarray, band: str) -> float:
    inside = [(at(one, band, "low") <= true) & (true <= at(one, band, "high")) for one in curves]
    return float(np.mean(inside))


def test_pairs_are_counted_as_written_out() -> None:
    found = captions(chances(1.0), 300, 0)
    for first, step in ((0, 1), (2, 7)):
        plain = Counter(pair for text in range(first, 300, step) for pair in itertools.combinations(found.of(text), 2))
        counts = pairs_met(found, first, step)
        assert {(at // AMONG, at % AMONG): counts[at] for at in np.flatnonzero(counts).tolist()} == plain


def test_the_band_holds_the_truth(curves: list[Growth]) -> None:
    coverage, pairs = truth(chances(1.0), STEPS)
    assert held(curves, coverage, "coverage") >= 0.9
    assert held(curves, pairs, "pairs") >= 0.9
    gains = np.diff(coverage, prepend=0)
    inside = [(one.gain.low <= gains) & (gains <= one.gain.high) for one in curves]
    assert np.mean(inside) >= 0.9


def test_the_band_is_narrow_enough_to_be_wrong(curves: list[Growth]) -> None:
    other, _ = truth(chances(0.9), STEPS)
    assert held(curves, other, "coverage") < 0.2
    assert all(np.all(at(one, "coverage", "high") - at(one, "coverage", "low") < 0.2) for one in curves)


def test_an_estimator_that_is_wrong_is_seen_by_the_trial_and_widens_the_band(
    curves: list[Growth], monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Frequencies.coverage

    def too_sure(self: Frequencies, volumes: list[int]) -> np.ndarray:
        beyond = np.maximum(np.array(volumes) / self.texts, 1)
        return 1 - (1 - right(self, [min(one, self.texts) for one in volumes])) / beyond**2

    monkeypatch.setattr(Frequencies, "coverage", too_sure)
    found = growth(captions(chances(1.0), SAMPLE, 0), STEPS)
    assert found.trial > 5 * max(one.trial for one in curves)
    widths = [at(one, "coverage", "high")[-1] - at(one, "coverage", "low")[-1] for one in (found, curves[0])]
    assert widths[0] > 2 * widths[1]


def test_the_order_of_captions_moves_no_estimate() -> None:
    sample = captions(chances(1.0), SAMPLE, 0)
    turned = sample.take(np.random.default_rng(1).permutation(SAMPLE))
    one, other = growth(sample, STEPS), growth(turned, STEPS)
    np.testing.assert_array_equal(one.coverage.mean, other.coverage.mean)
    np.testing.assert_array_equal(one.concepts, other.concepts)


def test_steps_are_among_the_volumes_and_gains_add_up(curves: list[Growth]) -> None:
    found = curves[0]
    assert set(STEPS) <= set(found.volumes)
    assert found.gain.mean.sum() == pytest.approx(at(found, "coverage", "mean")[-1])
    assert np.all(found.coverage.low <= found.coverage.mean)
    assert np.all(found.coverage.high <= 1)
    assert np.all(found.concepts <= AMONG)


def test_no_further_than_three_samples_and_no_fewer_than_ten_a_group() -> None:
    sample = captions(chances(1.0), LEAST, 0)
    with pytest.raises(AssertionError, match="trial reaches"):
        growth(sample, [3 * LEAST + 1])
    with pytest.raises(AssertionError, match="few captions"):
        growth(sample.take(np.arange(LEAST - 1)), [10])


def test_saturation_is_where_no_later_step_is_worth_it() -> None:
    assert saturation(np.array([0.5, 0.2, 0.05, 0.01]), 0.1) == 2
    assert saturation(np.array([0.5, 0.05, 0.2, 0.01]), 0.1) == 3, "not before the last that is"
    assert saturation(np.array([0.5, 0.2]), 0.1) is None
    assert saturation(np.array([0.05, 0.01]), 0.1) == 0
