import numpy as np
import pytest
from scipy import stats

from lightgen.evaluation.statistics import paired_differences, score_intervals


def _marks(rates: dict[str, float], seed: int, prompts: int = 60, samples: int = 4) -> dict:
    random = np.random.default_rng(seed)
    return {
        task: {f"{task}{i}": (random.random(samples) < rate).tolist() for i in range(prompts)}
        for task, rate in rates.items()
    }


def test_the_interval_agrees_with_scipys_bootstrap_of_prompts() -> None:
    marks = _marks({"colors": 0.7}, 1)
    ours = score_intervals(marks, seed=5, draws=4000)["colors"]
    means = np.array([np.mean(samples) for samples in marks["colors"].values()])
    theirs = stats.bootstrap((means,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(1))
    assert ours.value == pytest.approx(means.mean())
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs.confidence_interval), abs=0.012)


def test_samples_of_one_prompt_are_no_independent_evidence() -> None:
    """Four equal samples a prompt tell as much as one: the interval must not be halved."""
    once = {"colors": {str(i): [i % 3 == 0] for i in range(60)}}
    often = {"colors": {str(i): [i % 3 == 0] * 4 for i in range(60)}}
    one, four = score_intervals(once, 2)["colors"], score_intervals(often, 2)["colors"]
    assert (one.low, one.high) == pytest.approx((four.low, four.high))
    normal = 1.96 * np.sqrt(1 / 3 * 2 / 3 / 60)
    assert (four.high - four.low) / 2 == pytest.approx(normal, rel=0.15)


def test_overall_weighs_tasks_alike() -> None:
    marks = {"colors": {"a": [True]}, "counting": {str(i): [False] for i in range(9)}}
    assert score_intervals(marks, 0)["overall"].value == 0.5


def test_the_seed_decides() -> None:
    marks = _marks({"colors": 0.5, "position": 0.2}, 3)
    assert score_intervals(marks, 7) == score_intervals(marks, 7)
    assert score_intervals(marks, 7) != score_intervals(marks, 8)


def test_a_real_gain_is_found_and_equal_models_are_not_told_apart() -> None:
    base = _marks({"colors": 0.4, "position": 0.2}, 1, prompts=100)
    better = _marks({"colors": 0.7, "position": 0.5}, 2, prompts=100)
    found = paired_differences(better, base, seed=4)
    assert all(found[name].significant and found[name].p < 0.01 for name in ("colors", "position", "overall"))
    same = paired_differences(base, base, seed=4)["overall"]
    assert (same.value, same.significant, same.p) == (0.0, False, 1.0)


def test_under_no_difference_few_are_called_significant() -> None:
    """The null control: about one in twenty."""
    called = [
        paired_differences(_marks({"colors": 0.5}, 2 * i), _marks({"colors": 0.5}, 2 * i + 1), seed=i, draws=400)
        for i in range(200)
    ]
    assert sum(found["colors"].significant for found in called) <= 24  # P(more) < 0.001 at one in twenty


def test_other_prompts_are_refused() -> None:
    with pytest.raises(ValueError, match="same prompts"):
        paired_differences({"colors": {"a": [True]}}, {"colors": {"b": [True]}}, seed=0)
