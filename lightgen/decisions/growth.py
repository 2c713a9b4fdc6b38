"""Diversity against volume: what share of the pairs of concepts that captions put together is shown by so many of them.

A pair is two concepts that one caption speaks of: "red" and "bus", "dog" and "on". Captions come by lot. A pair counts
as shown by one caption, so the figures say what a set speaks of, and nothing of how well a student learns it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np
from jaxtyping import Float64, Int64
from scipy.stats import t as student_t

from lightgen.decisions.concepts import all_concepts
from lightgen.decisions.rarefaction import Frequencies
from lightgen.decisions.shingles import Shingles

GROUPS = 24  # of the sample, by lot: for the band, and in thirds for the trial
THIRDS = 3
REACH = 3.0  # volumes beyond so many samples are refused: the trial reaches no further
LEAST = 10 * GROUPS  # captions of a sample
SURE = float(student_t.ppf(0.975, GROUPS - 1))


@dataclass(frozen=True)
class Band:
    """Estimates with the ends of their 95 % band."""

    mean: Float64[np.ndarray, " n"]
    low: Float64[np.ndarray, " n"]
    high: Float64[np.ndarray, " n"]


@dataclass(frozen=True)
class Growth:
    """Curves over `volumes`, captions by lot; `steps` are some of them.

    coverage: share of the pairs in one caption more that so many captions have shown, 0 to 1
    pairs, concepts: how many are shown; concepts are those of our list
    gain: coverage that each step adds to the one before
    trial: by how much the estimate from a third of the sample misses the whole of it, worst of three
    """

    volumes: tuple[int, ...]
    coverage: Band
    pairs: Band
    concepts: Float64[np.ndarray, " volumes"]
    steps: tuple[int, ...]
    gain: Band
    trial: float

    def at(self, step: int) -> int:
        """The place of a step among the volumes."""
        return self.volumes.index(step)


def growth(concepts: Shingles, steps: Sequence[int]) -> Growth:
    """The curves of a sample of captions that stand in random order; `steps` ascend, to REACH samples at most.

    The band is the grouped jackknife's: how another sample of captions would differ. Beyond the sample it is widened by
    the miss of the trial, in proportion to the logarithm of volume over sample. It does not say how captions of other
    corpora differ. Time: pairs of a caption, summed, and some seconds; memory: 22 MB for each of six tables of pairs.
    """
    texts = len(concepts.offsets) - 1
    assert texts >= LEAST, "a sample of a few captions in each group"
    assert steps[-1] <= REACH * texts, "no further than the trial reaches"
    volumes = _with_between(steps)
    at = np.searchsorted(volumes, steps)
    whole = pairs_met(concepts)
    told = _told(Frequencies.of(whole, texts), volumes)
    left_out, thirds = [], [np.zeros_like(whole) for _ in range(THIRDS)]
    for group in range(GROUPS):
        mine = pairs_met(concepts, group, GROUPS)
        left_out.append(_told(Frequencies.of(whole - mine, texts - len(range(group, texts, GROUPS))), volumes))
        thirds[group % THIRDS] += mine
    others, miss = np.array(left_out), _trial(thirds, texts, whole)
    beyond = np.log(np.maximum(np.array(volumes) / texts, 1)) / np.log(REACH)
    half = SURE * _spread(others) + miss[:, None] * beyond
    gain_half = SURE * _spread(_gains(others[:, 0, at])) + miss[0] * _gains(beyond[at])
    single = np.bincount(concepts.hashes, minlength=len(all_concepts().names))
    return Growth(
        tuple(volumes),
        _band(told[0], half[0], 1.0),
        _band(told[1], half[1], np.inf),
        np.minimum(Frequencies.of(single, texts).found(volumes), len(single)),
        tuple(steps),
        _band(_gains(told[0, at]), gain_half, 1.0),
        float(miss[0]),
    )


def _with_between(steps: Sequence[int]) -> list[int]:
    """The steps and volumes between them, close where the curve is steep."""
    last = steps[-1]
    more = np.rint([*np.linspace(0, last, 49)[1:], *np.geomspace(max(1, last / 1000), last, 25)]).astype(int)
    return sorted({*steps, *(int(one) for one in more if one > 0)})


def _gains(levels: Float64[np.ndarray, "*any steps"]) -> Float64[np.ndarray, "*any steps"]:
    return np.diff(levels, axis=-1, prepend=0.0)


def _band(mean: Float64[np.ndarray, " n"], half: Float64[np.ndarray, " n"], most: float) -> Band:
    mean = np.maximum(mean, 0) + 0.0  # rounding leaves zeros with a sign
    return Band(mean, np.maximum(mean - half, 0) + 0.0, np.minimum(mean + half, most))


def saturation(gains: Float64[np.ndarray, " steps"], least: float) -> int | None:
    """The first step from which on every step adds less than `least`; None where the last still adds as much."""
    enough = np.flatnonzero(gains >= least)
    first = int(enough[-1]) + 1 if len(enough) else 0
    return first if first < len(gains) else None


def _told(found: Frequencies, volumes: Sequence[int]) -> Float64[np.ndarray, "2 volumes"]:
    return np.stack([found.coverage(volumes), found.found(volumes)])


def _spread(left_out: Float64[np.ndarray, "groups ..."]) -> Float64[np.ndarray, "..."]:
    """Standard errors by the jackknife, from what is estimated without each group."""
    off = left_out - left_out.mean(axis=0)
    return np.sqrt((GROUPS - 1) / GROUPS * (off**2).sum(axis=0))


def _trial(thirds: Sequence[Int64[np.ndarray, " pairs"]], texts: int, whole: Int64[np.ndarray, " pairs"]) -> np.ndarray:
    """The worst misses of coverage and pairs where a third of the sample foretells the whole, which is known."""
    known = _told(Frequencies.of(whole, texts), [texts - 1])
    misses = [
        _told(Frequencies.of(third, _share(texts, number)), [texts - 1]) - known for number, third in enumerate(thirds)
    ]
    return np.abs(misses).max(axis=0)[:, 0]


def _share(texts: int, third: int) -> int:
    return sum(len(range(group, texts, GROUPS)) for group in range(third, GROUPS, THIRDS))


def pairs_met(concepts: Shingles, first: int = 0, step: int = 1) -> Int64[np.ndarray, " pairs"]:
    """How many of every `step`-th caption from `first` on speak of each pair of concepts."""
    among = len(all_concepts().names)
    return _count_pairs(concepts.hashes, concepts.offsets, first, step, np.zeros(among * among, np.int64), among)


@numba.njit(cache=True)
def _count_pairs(
    concepts: np.ndarray, offsets: np.ndarray, first: int, step: int, out: np.ndarray, among: int
) -> np.ndarray:
    for text in range(first, len(offsets) - 1, step):
        for i in range(offsets[text], offsets[text + 1]):
            for j in range(i + 1, offsets[text + 1]):
                out[np.int64(concepts[i]) * among + np.int64(concepts[j])] += 1
    return out
