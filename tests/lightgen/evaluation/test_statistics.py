from collections.abc import Iterator

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


def test_far_from_0_and_1_the_interval_is_that_of_scipys_bootstrap_of_prompts() -> None:
    marks = _marks({"colors": 0.7}, 1)
    ours = score_intervals(marks)["colors"]
    means = np.array([np.mean(samples) for samples in marks["colors"].values()])
    theirs = stats.bootstrap((means,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(1))
    assert ours.value == pytest.approx(means.mean())
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs.confidence_interval), abs=0.02)


def test_samples_of_one_prompt_are_no_independent_evidence() -> None:
    """Four equal samples a prompt tell as much as one: the interval must not be halved."""
    once = {"colors": {str(i): [i % 3 == 0] for i in range(60)}}
    often = {"colors": {str(i): [i % 3 == 0] * 4 for i in range(60)}}
    one, four = score_intervals(once)["colors"], score_intervals(often)["colors"]
    assert (four.low, four.high) == pytest.approx((one.low, one.high), abs=0.005)
    normal = 1.96 * np.sqrt(1 / 3 * 2 / 3 / 60)
    assert (four.high - four.low) / 2 == pytest.approx(normal, rel=0.15)


def test_overall_weighs_tasks_alike() -> None:
    marks = {"colors": {"a": [True]}, "counting": {str(i): [False] for i in range(9)}}
    assert score_intervals(marks)["overall"].value == 0.5


def test_one_sample_a_prompt_has_the_exact_interval() -> None:
    for right, n in ((0, 30), (1, 30), (17, 40), (40, 40)):
        found = score_intervals({"colors": {str(i): [i < right] for i in range(n)}})["colors"]
        exact = stats.binomtest(right, n).proportion_ci(0.95, method="exact")
        assert (found.low, found.high) == pytest.approx((exact.low, exact.high), abs=1e-9)


# Prompts and true rates of each task, samples a prompt, and how alike samples of one prompt are.
SITUATIONS: dict[str, tuple[list[int], list[float], int, float]] = {
    "few prompts in the one task that is not all wrong": ([10, 60, 60, 60, 60, 60], [0.1, 0, 0, 0, 0, 0], 1, 0),
    "few prompts in the one task that is not all right": ([12, 80, 80, 80, 80, 80], [0.9, 1, 1, 1, 1, 1], 1, 0),
    "a handful of right ones anywhere": ([80] * 6, [0.005] * 6, 2, 0.2),
    "from nearly none to nearly all": ([20] * 6, [0.98, 0.9, 0.5, 0.6, 0.1, 0.02], 2, 0.3),
    "half right": ([80] * 6, [0.5] * 6, 4, 0.3),
    "some tasks at 0 and at 1": ([40, 80, 20, 60, 60, 30], [0.6, 0.05, 0, 0.01, 0.9, 1], 2, 0.3),
}
RUNS, TOO_FEW = 500, 464  # fewer than 464 of 500 has a chance of 0.01 at 95 %


def _exams(name: str) -> Iterator[tuple[dict, float]]:
    """Marks of simulated exams, and the true overall score."""
    prompts, rates, samples, alike = SITUATIONS[name]
    random = np.random.default_rng(0)
    for _ in range(RUNS):
        marks = {}
        for task, (n, rate) in enumerate(zip(prompts, rates, strict=True)):
            shape = (1 - alike) / alike if alike else 0
            easy = random.beta(rate * shape, (1 - rate) * shape, n) if alike and 0 < rate < 1 else np.full(n, rate)
            marks[str(task)] = {str(i): list(random.random(samples) < easy[i]) for i in range(n)}
        yield marks, float(np.mean(rates))


@pytest.mark.parametrize("name", SITUATIONS)
def test_the_interval_of_the_overall_score_holds_the_truth_as_often_as_it_says(name: str) -> None:
    held = sum(found.low <= truth <= found.high for marks, truth in _exams(name)
               for found in [score_intervals(marks)["overall"]])  # fmt: skip
    assert held >= TOO_FEW


def test_the_bootstrap_with_a_bound_from_all_prompts_together_does_not() -> None:
    """The null control: what stood here before, which is too narrow wherever tasks are at 0 or 1."""

    def before(marks: dict) -> tuple[float, float]:
        random, shares = np.random.default_rng(1), [np.array([*task.values()]).mean(1) for task in marks.values()]
        drawn = np.mean([random.choice(one, (200, len(one))).mean(1) for one in shares], axis=0)
        miss = 0.025 ** (1 / sum(map(len, marks.values())))
        mean = np.mean([one.mean() for one in shares])
        low, high = np.quantile(drawn, [0.025, 0.975])
        return (0.0, 1 - miss) if mean == 0 else (miss, 1.0) if mean == 1 else (low, high)

    name = "few prompts in the one task that is not all wrong"
    held = sum(low <= truth <= high for marks, truth in _exams(name) for low, high in [before(marks)])
    assert held < 0.7 * RUNS


def test_a_real_gain_is_found_and_equal_models_are_not_told_apart() -> None:
    base = _marks({"colors": 0.4, "position": 0.2}, 1, prompts=100)
    better = _marks({"colors": 0.7, "position": 0.5}, 2, prompts=100)
    found = paired_differences(better, base, seed=4)
    assert all(found[name].significant and found[name].p < 0.01 for name in ("colors", "position", "overall"))
    same = paired_differences(base, base, seed=4)["overall"]
    assert (same.value, same.significant, same.p) == (0.0, False, 1.0)


def test_equal_answers_leave_room_for_prompts_that_would_differ() -> None:
    """Twenty prompts without a difference do not show that there is none: the bootstrap alone said exactly 0."""
    base = {"colors": {str(i): [i % 2 == 0] for i in range(20)}}
    same, exact = paired_differences(base, base, seed=4), stats.binomtest(0, 20).proportion_ci(0.95, method="exact")
    assert (same["colors"].low, same["colors"].high) == pytest.approx((-exact.high, exact.high))
    one, other = {"colors": {"a": [True]}}, {"colors": {"a": [False]}}
    assert not paired_differences(one, other, seed=4)["overall"].significant, "one prompt shows nothing"


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
