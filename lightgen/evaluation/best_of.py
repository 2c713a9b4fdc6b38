"""The score that a model has where the best of N images by some scorer is taken, for N from 1 on.

Every subset of N of the drawn images is counted, not one that was drawn by chance: in order of the scorer, the image
at rank r is the best of C(n - r, N - 1) of the C(n, N) subsets. So the estimate is unbiased for a fresh N images.
"""

from collections.abc import Mapping, Sequence
from math import comb

import numpy as np
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict

from lightgen.evaluation.statistics import Interval, score_intervals

# task -> prompt -> (value of the scorer, or None; right or wrong, or a share of 1) of its images, in order of their ids
Judged = Mapping[str, Mapping[str, Sequence[tuple[float | None, float]]]]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Point(_Part):
    """The score at one N, with its interval over prompts; `oracle` is that of a scorer which knows what is right."""

    n: int
    mean: float
    low: float
    high: float
    oracle: float
    oracle_low: float
    oracle_high: float


class BestOfCurves(_Part):
    """`best_of.json`: the overall score of each model where the best of N images by `column` is taken."""

    scorer: str
    column: str
    curves: dict[str, list[Point]]


def weights(n: int, size: int) -> Float[np.ndarray, " n"]:
    """Share of the subsets of `size` of n whose first is the one at each rank; they add up to 1."""
    total = comb(n, size)
    return np.array([comb(n - 1 - rank, size - 1) / total for rank in range(n)])


def expected_best(images: Sequence[tuple[float | None, float]], size: int) -> float:
    """Mean mark of the best of `size` images by value, over all subsets; of equal ones the first, one without last."""
    ranked = sorted(images, key=lambda image: np.inf if image[0] is None or np.isnan(image[0]) else -image[0])
    return float(weights(len(ranked), size) @ [mark for _, mark in ranked])


def best_of_curve(judged: Judged, most: int) -> list[Point]:
    """The overall score for N = 1 to `most`, and its ceiling: any right of N.

    Intervals are over prompts, see `score_intervals`. Raises ValueError where a prompt has fewer than `most` images.
    """
    fewest = min((len(images) for prompts in judged.values() for images in prompts.values()), default=0)
    if fewest < most:
        raise ValueError(f"best of {most}: there are prompts with {fewest} images")
    oracle = {task: {p: [(m, m) for _, m in images] for p, images in of.items()} for task, of in judged.items()}
    points = []
    for size in range(1, most + 1):
        chosen, ceiling = (_overall(each, size) for each in (judged, oracle))
        points.append(
            Point(
                n=size,
                mean=chosen.value,
                low=chosen.low,
                high=chosen.high,
                oracle=ceiling.value,
                oracle_low=ceiling.low,
                oracle_high=ceiling.high,
            )
        )
    return points


def _overall(judged: Judged, size: int) -> Interval:
    marks = {task: {p: [expected_best(images, size)] for p, images in of.items()} for task, of in judged.items()}
    return score_intervals(marks)["overall"]
