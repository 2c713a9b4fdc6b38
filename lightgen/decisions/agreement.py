"""How far judges agree, with truth and with each other: statistics of labels and scores, each with its 95 % interval.

Shares have Wilson's interval, which needs no draws. The others draw units again (the bootstrap): where units are told
apart by their labels alone, how often each sort of unit is drawn is multinomial, so that a draw costs as much as there
are sorts of units and not as many as there are units.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64
from scipy.stats import rankdata

Z = 1.959963984540054  # of 95 %
DRAWS = 1000
FEW = 2000  # above that many units the interval of a rank correlation is its formula
Counts = Int64[np.ndarray, " sorts"]


@dataclass(frozen=True)
class Estimate:
    """A figure of `n` units, with its 95 % interval."""

    n: int
    value: float
    low: float
    high: float


def share(right: int, n: int) -> Estimate | None:
    """`right` of `n` with Wilson's interval; None of nothing."""
    if not n:
        return None
    p, spread = right / n, Z * Z / n
    middle = (p + spread / 2) / (1 + spread)
    reach = Z * math.sqrt(p * (1 - p) / n + spread / (4 * n)) / (1 + spread)
    # At both ends the formula is exact but for rounding.
    return Estimate(n, p, 0.0 if right == 0 else middle - reach, 1.0 if right == n else middle + reach)


def kappa(labels: Mapping[tuple[str, str], int], seed: int, draws: int = DRAWS) -> Estimate | None:
    """Cohen's kappa of two judges: agreement beyond chance, 1 at best and 0 for chance.

    `labels` is how often each pair of labels was given. None where both give one and the same label to all, for chance
    would agree as well.
    """
    names = sorted({label for both in labels for label in both})
    cells = sorted(labels)
    rows, columns = (np.array([names.index(cell[side]) for cell in cells], np.int64) for side in range(2))

    def of(counts: Counts) -> float:
        total = counts.sum()
        first, second = (np.bincount(one, counts, len(names)) / total for one in (rows, columns))
        chance = float(first @ second)
        return math.nan if chance >= 1 else (float(counts[rows == columns].sum()) / total - chance) / (1 - chance)

    return _bootstrap(np.array([labels[cell] for cell in cells], np.int64), of, seed, draws)


def alpha(units: Sequence[Sequence[str]], seed: int, draws: int = DRAWS) -> Estimate | None:
    """Krippendorff's alpha for names without order: 1 at best, 0 for chance. A unit is what its raters say of it.

    Units of one rater say nothing of agreement and do not count. None without others, or where there is one label only.
    """
    sorts = dict(sorted(Counter(tuple(sorted(unit)) for unit in units if len(unit) > 1).items()))
    names = sorted({label for sort in sorts for label in sort})
    # How often each label stands in a unit of each sort, and how often two raters of it differ, over its raters - 1.
    held = np.array([[sort.count(name) for name in names] for sort in sorts], float).reshape(len(sorts), len(names))
    sizes = held.sum(axis=1)
    apart = (sizes**2 - (held**2).sum(axis=1)) / np.maximum(sizes - 1, 1)

    def of(counts: Counts) -> float:
        each = counts @ held
        total = each.sum()
        expected = (total**2 - (each**2).sum()) / (total - 1)
        return math.nan if expected <= 0 else 1 - float(counts @ apart) / expected

    return _bootstrap(np.array(list(sorts.values()), np.int64), of, seed, draws)


def spearman(first: Sequence[float], second: Sequence[float], seed: int, draws: int = DRAWS) -> Estimate | None:
    """Rank correlation. None of fewer than three pairs of values, or where one side is the same everywhere.

    Units are drawn again while there are few; of many, draws would take long and the formula of Bonett and Wright
    (2000) is as good.
    """
    values = np.array([first, second], float)
    n = values.shape[1]
    if n < 3:
        return None
    found = _correlation(rankdata(values, axis=1))
    if not math.isfinite(found):
        return None
    if n > FEW:
        middle, reach = math.atanh(min(max(found, -1 + 1e-12), 1 - 1e-12)), Z * math.sqrt((1 + found**2 / 2) / (n - 3))
        return Estimate(n, found, math.tanh(middle - reach), math.tanh(middle + reach))
    random = np.random.default_rng(seed)
    drawn = (_correlation(rankdata(values[:, random.integers(0, n, n)], axis=1)) for _ in range(draws))
    return _estimate(n, found, np.array(list(drawn)))


def acceptance(kept: Mapping[str, int], refused: Mapping[str, int]) -> dict[str, Estimate]:
    """Share of candidates that were kept, by group, the largest groups first."""
    there = {group: kept.get(group, 0) + refused.get(group, 0) for group in {**kept, **refused}}
    order = sorted((group for group in there if there[group]), key=lambda group: (-there[group], group))
    found = {group: share(kept.get(group, 0), there[group]) for group in order}
    return {group: one for group, one in found.items() if one is not None}


def _correlation(ranks: Float64[np.ndarray, "2 n"]) -> float:
    centred = ranks - ranks.mean(axis=1, keepdims=True)
    norm = math.sqrt(float((centred[0] ** 2).sum()) * float((centred[1] ** 2).sum()))
    return float(centred[0] @ centred[1]) / norm if norm else math.nan


def _bootstrap(counts: Counts, of: Callable[[Counts], float], seed: int, draws: int) -> Estimate | None:
    """`of` how often each sort of unit is there, and its spread when as many units are drawn again."""
    n = int(counts.sum())
    found = of(counts) if n else math.nan
    if not math.isfinite(found):
        return None
    drawn = np.random.default_rng(seed).multinomial(n, counts / n, draws)
    return _estimate(n, found, np.array([of(each) for each in drawn]))


def _estimate(n: int, found: float, drawn: Float64[np.ndarray, " draws"]) -> Estimate:
    """The value with the middle 95 % of the draws that have one; it lies within, even of a handful of units."""
    told = drawn[np.isfinite(drawn)]
    low, high = np.quantile(told, [0.025, 0.975]) if len(told) else (found, found)
    return Estimate(n, found, min(float(low), found), max(float(high), found))
