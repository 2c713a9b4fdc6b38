"""How sure a score is: intervals over prompts, and paired differences between models on the same prompts.

Samples of one prompt tell less than as many prompts do, so every interval is one over prompts. That of a task is
Clopper and Pearson's, exact for independent marks, on the effective number of images (Korn and Graubard 1998); the
bootstrap is too sure near 0 and 1, and has no width there. `overall` is the unweighted mean of the task means, so its
interval joins those of the tasks (Zou and Donner 2008): a task of few prompts has its own, wide bound in it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.special import betaincinv, stdtrit

DRAWS = 2000
TAIL = 0.025  # of each side of a 95 % interval
NOTHING = 1e-18  # a variance that is rounding alone
Counts = Float[np.ndarray, " prompts"]


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """Paired difference with its 95 % interval and the two-sided bootstrap p-value of no difference."""

    value: float
    low: float
    high: float
    p: float

    @property
    def significant(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0


# task -> prompt id -> marks of its samples, right or wrong or a share of 1
Marks = Mapping[str, Mapping[str, Sequence[float]]]


def score_intervals(marks: Marks) -> dict[str, Interval]:
    """Interval of every task and of `overall`, the mean of the tasks."""
    counts = {task: _totals(prompts) for task, prompts in marks.items()}
    return {**{task: share_interval(*of_task) for task, of_task in counts.items()}, "overall": overall(counts.values())}


def share_interval(right: Counts, total: Counts) -> Interval:
    """Interval of sum(right) / sum(total), each prompt with `right` of its `total` samples; right may be a fraction.

    One sample a prompt, right or wrong: Clopper and Pearson's. More samples count as far as they differ within prompts.
    """
    value, variance = _estimate(right, total)
    if variance < NOTHING:
        return _unvaried(value, len(total), 0.0, 1.0)
    # Few prompts tell little of the variance itself.
    unsure = (stdtrit(total.sum() - 1, 1 - TAIL) / stdtrit(len(total) - 1, 1 - TAIL)) ** 2
    return _clopper_pearson(value, value * (1 - value) / variance * float(unsure))


def overall(tasks: Iterable[tuple[Counts, Counts]]) -> Interval:
    """Interval of the unweighted mean of the shares of tasks, each given by `right` and `total` of its prompts.

    On each side the wider of two: that joined of the tasks' own intervals, which knows how little a task of few prompts
    tells where all of them are right or wrong, and the exact one on the effective number of images of all tasks, which
    is the better where a handful of right ones lie scattered over the tasks.
    """
    tasks = list(tasks)
    joined = mean_interval([share_interval(*task) for task in tasks])
    variance = sum(_estimate(*task)[1] for task in tasks) / len(tasks) ** 2
    if variance < NOTHING:
        return joined
    pooled = _clopper_pearson(joined.value, joined.value * (1 - joined.value) / variance)
    return Interval(joined.value, min(joined.low, pooled.low), max(joined.high, pooled.high))


def value_interval(values: Float[np.ndarray, " prompts"]) -> Interval:
    """Student's interval of the mean of one figure a prompt, of any size; of two prompts or more."""
    mean, n = float(values.mean()), len(values)
    reach = float(stdtrit(n - 1, 1 - TAIL) * values.std(ddof=1) / np.sqrt(n))
    return Interval(mean, mean - reach, mean + reach)


def mean_interval(parts: Sequence[Interval]) -> Interval:
    """Interval of the unweighted mean of independent estimates, from theirs: widths of each side add in squares."""
    value, low, high = (np.array([getattr(part, name) for part in parts]) for name in ("value", "low", "high"))
    below, above = (float(np.sqrt(np.square(side).sum())) / len(parts) for side in (value - low, high - value))
    mean = float(value.mean())
    return Interval(mean, mean - below, mean + above)


def paired_differences(a: Marks, b: Marks, seed: int, draws: int = DRAWS) -> dict[str, Difference]:
    """Score of `a` minus score of `b`; raises ValueError where prompts differ.

    Of a task by the bootstrap, the same prompts drawn for both, each with all its samples. Where all prompts differ
    alike, often by nothing, the bootstrap has no width: the exact bound on prompts that would differ takes its place.
    """
    if {task: list(prompts) for task, prompts in a.items()} != {task: list(prompts) for task, prompts in b.items()}:
        raise ValueError("paired differences need the same prompts in the same order")
    first, second = _draw(a, seed, draws), _draw(b, seed, draws)
    drawn = {task: first[task] - second[task] for task in a}
    tasks = {task: _paired(drawn[task], _shares(a[task]) - _shares(b[task])) for task in a}
    found = {**tasks, "overall": mean_interval(list(tasks.values()))}
    tails = {**drawn, "overall": np.mean(list(drawn.values()), axis=0)}
    return {name: Difference(one.value, one.low, one.high, _p(tails[name][1:])) for name, one in found.items()}


def _paired(drawn: np.ndarray, by_prompt: np.ndarray) -> Interval:
    if np.ptp(by_prompt) == 0:
        return _unvaried(float(by_prompt[0]), len(by_prompt), -1.0, 1.0)
    low, high = np.quantile(drawn[1:], [TAIL, 1 - TAIL])
    return Interval(float(drawn[0]), float(low), float(high))


def _estimate(right: np.ndarray, total: np.ndarray) -> tuple[float, float]:
    """The share, and the variance of it that another draw of prompts would give."""
    value = float(right.sum() / total.sum())
    return value, float(((right - value * total) ** 2).sum() / total.sum() ** 2)


def _clopper_pearson(value: float, effective: float) -> Interval:
    hits, misses = value * effective, (1 - value) * effective
    low, high = betaincinv(hits, misses + 1, TAIL), betaincinv(hits + 1, misses, 1 - TAIL)
    return Interval(value, min(value, float(low)), max(value, float(high)))


def _unvaried(value: float, prompts: int, least: float, most: float) -> Interval:
    """All prompts gave `value`: at most a share of them, by Clopper and Pearson, could give anything else."""
    others = 1 - TAIL ** (1 / prompts)
    return Interval(value, value - others * (value - least), value + others * (most - value))


def _totals(prompts: Mapping[str, Sequence[float]]) -> tuple[np.ndarray, np.ndarray]:
    """Sum of the marks of each prompt, and how many there are."""
    return np.array([sum(marks) for marks in prompts.values()], float), np.array(
        [len(marks) for marks in prompts.values()], float
    )


def _shares(prompts: Mapping[str, Sequence[float]]) -> np.ndarray:
    right, total = _totals(prompts)
    return right / total


def _draw(marks: Marks, seed: int, draws: int) -> dict[str, np.ndarray]:
    """[1 + draws] means of every task; the first is the estimate itself."""
    out = {}
    for number, (task, prompts) in enumerate(marks.items()):
        right, total = _totals(prompts)
        index = np.random.default_rng([seed, number]).integers(0, len(right), (draws, len(right)))
        means = right[index].sum(axis=1) / total[index].sum(axis=1)
        out[task] = np.concatenate([[right.sum() / total.sum()], means])
    return out


def _p(drawn: np.ndarray) -> float:
    tail = min((1 + (drawn <= 0).sum()) / (1 + len(drawn)), (1 + (drawn >= 0).sum()) / (1 + len(drawn)))
    return float(min(1.0, 2 * tail))
