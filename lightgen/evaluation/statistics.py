"""How sure a score is: bootstrap over prompts, and paired differences between models on the same prompts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

DRAWS = 2000


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


def score_intervals(marks: Marks, seed: int, draws: int = DRAWS) -> dict[str, Interval]:
    """Interval of every task and of `overall`, prompts drawn with all their samples (the cluster bootstrap)."""
    drawn = _draw(marks, seed, draws)
    return {name: _interval(values) for name, values in _with_overall(drawn).items()}


def paired_differences(a: Marks, b: Marks, seed: int, draws: int = DRAWS) -> dict[str, Difference]:
    """Score of `a` minus score of `b`, the same prompts drawn for both; raises ValueError where prompts differ."""
    if {task: list(prompts) for task, prompts in a.items()} != {task: list(prompts) for task, prompts in b.items()}:
        raise ValueError("paired differences need the same prompts in the same order")
    first, second = (_with_overall(_draw(marks, seed, draws)) for marks in (a, b))
    return {name: _difference(first[name] - second[name]) for name in first}


def _draw(marks: Marks, seed: int, draws: int) -> dict[str, np.ndarray]:
    """[1 + draws] means of every task; the first is the estimate itself."""
    out = {}
    for number, (task, prompts) in enumerate(marks.items()):
        right = np.array([sum(samples) for samples in prompts.values()], float)
        total = np.array([len(samples) for samples in prompts.values()], float)
        index = np.random.default_rng([seed, number]).integers(0, len(right), (draws, len(right)))
        means = right[index].sum(axis=1) / total[index].sum(axis=1)
        out[task] = np.concatenate([[right.sum() / total.sum()], means])
    return out


def _with_overall(drawn: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {**drawn, "overall": np.mean(list(drawn.values()), axis=0)}


def _interval(values: np.ndarray) -> Interval:
    low, high = np.quantile(values[1:], [0.025, 0.975])
    return Interval(float(values[0]), float(low), float(high))


def _difference(values: np.ndarray) -> Difference:
    interval, drawn = _interval(values), values[1:]
    tail = min((1 + (drawn <= 0).sum()) / (1 + len(drawn)), (1 + (drawn >= 0).sum()) / (1 + len(drawn)))
    return Difference(interval.value, interval.low, interval.high, float(min(1.0, 2 * tail)))
