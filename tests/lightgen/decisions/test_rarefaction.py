"""Rarefaction against every subset of a small sample; what lies beyond against populations whose truth is known."""

import itertools

import numpy as np
import pytest

from lightgen.decisions.rarefaction import Frequencies

TEXTS = [{0, 1}, {0, 2}, {0}, {1, 3, 4}, {0, 4}, set(), {5}, {0, 6, 7}]


def frequencies(texts: list[set[int]]) -> Frequencies:
    met = np.bincount([kind for text in texts for kind in text], minlength=10)
    return Frequencies.of(met, len(texts))


@pytest.mark.parametrize("volume", range(1, len(TEXTS) + 1))
def test_kinds_of_fewer_texts_are_the_mean_over_all_subsets(volume: int) -> None:
    counts = [len(set().union(*some)) for some in itertools.combinations(TEXTS, volume)]
    assert frequencies(TEXTS).found([volume])[0] == pytest.approx(np.mean(counts), rel=1e-12)


@pytest.mark.parametrize("volume", range(1, len(TEXTS)))
def test_coverage_of_fewer_texts_is_the_mean_over_all_subsets_and_one_text_more(volume: int) -> None:
    new = mentions = 0
    for places in itertools.combinations(range(len(TEXTS)), volume):
        shown = set().union(*(TEXTS[place] for place in places))
        for other in set(range(len(TEXTS))) - set(places):
            new, mentions = new + len(TEXTS[other] - shown), mentions + len(TEXTS[other])
    assert frequencies(TEXTS).coverage([volume])[0] == pytest.approx(1 - new / mentions, rel=1e-12)


def zipf(exponent: float) -> np.ndarray:
    """Chances that a text speaks of each of a million kinds, 5 a text on average."""
    weights = np.arange(1, 1_000_001.0) ** -exponent
    return np.minimum(5 * weights / weights.sum(), 0.9)


POPULATIONS = {
    "zipf 0.8": zipf(0.8), "zipf 1": zipf(1.0), "zipf 1.2": zipf(1.2), "zipf 1.6": zipf(1.6),
    "uniform": np.full(400_000, 5 / 400_000), "dense": np.full(50_000, 5 / 50_000),
}  # fmt: skip
SAMPLE = 100_000
FURTHER = [SAMPLE * 3 // 2, 2 * SAMPLE, 3 * SAMPLE]


def sampled(chances: np.ndarray, seed: int) -> Frequencies:
    return Frequencies.of(np.random.default_rng(seed).binomial(SAMPLE, chances), SAMPLE)


def truth(chances: np.ndarray, volumes: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Kinds and coverage, by their definition."""
    missed = np.stack([(1 - chances) ** volume for volume in volumes])
    return (1 - missed).sum(axis=1), 1 - (chances * missed).sum(axis=1) / chances.sum()


def chao(found: Frequencies, volumes: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Kinds by Colwell et al. 2012 (Chao2), coverage by Chao and Jost 2012."""
    once, twice = (float(found.kinds[found.times == times].sum()) for times in (1, 2))
    texts, unseen = found.texts, (found.texts - 1) / found.texts * once**2 / (2 * twice)
    more = np.array(volumes) - texts
    left = (texts - 1) * once / ((texts - 1) * once + 2 * twice)
    kinds = found.met + unseen * (1 - (1 - once / (texts * unseen + once)) ** more)
    return kinds, 1 - once / found.mentions * left ** (more + 1)


@pytest.mark.parametrize("name", POPULATIONS)
@pytest.mark.parametrize("seed", range(2))
def test_the_estimate_beyond_the_sample_is_near_the_truth(name: str, seed: int) -> None:
    found, (kinds, coverage) = sampled(POPULATIONS[name], seed), truth(POPULATIONS[name], FURTHER)
    np.testing.assert_allclose(found.found(FURTHER), kinds, rtol=0.02)
    np.testing.assert_allclose(found.coverage(FURTHER), coverage, atol=0.006)


@pytest.mark.parametrize("name", ["zipf 0.8", "zipf 1", "zipf 1.2", "zipf 1.6"])
def test_the_estimator_of_chao_is_seen_to_miss_where_kinds_are_uneven(name: str) -> None:
    kinds, coverage = truth(POPULATIONS[name], FURTHER)
    of_kinds, of_coverage = chao(sampled(POPULATIONS[name], 0), FURTHER)
    assert np.all(of_kinds[2] < 0.98 * kinds[2]), "it is a lower bound"
    assert np.all(of_coverage > coverage), "and says too early that all is shown"


def test_the_curves_rise_ever_slower_across_the_end_of_the_sample() -> None:
    found = sampled(POPULATIONS["zipf 1"], 0)
    volumes = [*range(5000, 3 * SAMPLE, 5000)]
    for curve in (found.found(volumes), found.coverage(volumes)):
        steps = np.diff(curve)
        assert np.all(steps > 0)
        assert np.all(np.diff(steps) < 0.02 * steps[:-1])
    assert found.found([SAMPLE])[0] == found.met
    ends = found.coverage([SAMPLE - 1, SAMPLE])
    assert ends[0] == pytest.approx(1 - found.turing, rel=1e-9)
    assert ends[1] == pytest.approx(ends[0], rel=1e-9)


def test_at_the_edges() -> None:
    nothing = Frequencies.of(np.zeros(4, np.int64), 10)
    assert nothing.found([5, 30]).tolist() == [0, 0]
    assert nothing.coverage([5, 30]).tolist() == [0, 0]
    always = Frequencies.of(np.array([10, 10]), 10)
    assert always.found([1, 10]).tolist() == [2, 2]
    assert always.coverage([1, 9, 30]).tolist() == [1, 1, 1]
    once = Frequencies.of(np.ones(10, np.int64), 10)
    assert once.coverage([9])[0] == 0
    assert once.found([20])[0] > 19, "what was never met again is met as often in as many texts more"
