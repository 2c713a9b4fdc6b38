"""How many near-duplicates the bands find: some captions compared with all, without any signature."""

from dataclasses import replace
from typing import NamedTuple

import numba
import numpy as np
from jaxtyping import Bool, Int32, Int64, UInt32

from lightgen.decisions.mapped import forget
from lightgen.decisions.minhash import Bands, plan_bands
from lightgen.decisions.near_duplicates import Marks, NearDuplicateConfig
from lightgen.decisions.shingles import BLOCK, FILE_BLOCK, Shingles

SAMPLE = 1000
FEWER = 8  # the sample is so many times smaller where its captions are like too many others
MOST_PAIRS = 1 << 20
COUNTED = 1 << 16  # captions that say which n-grams are rare


class Recall(NamedTuple):
    """Pairs of a sample with all captions that are at the threshold or above, and those of them that are found."""

    pairs: int
    found: int


def recall(
    marks: Marks,
    order: Int64[np.ndarray, " k"],
    config: NearDuplicateConfig,
    sample: int = SAMPLE,
    stays: Bool[np.ndarray, " n"] | None = None,
) -> Recall:
    """Of the captions that `order` names, the first `sample` compared with all; fewer of them, where those are like
    more than MOST_PAIRS, as captions of one template are.

    A pair is found if it shares a band and, where `stays` says who does, not both stay: bands of many captions are not
    looked at pair by pair.

    Exact. Captions at the threshold share so many n-grams that, leave a few of the first out and the second holds one
    of the rest: so only those are compared that hold one of its rarest. Time: a look at each n-gram of all captions,
    and the n-grams of those that share a rare one; memory: 4 bytes a caption, and 16 a pair.
    """
    pairs = _pairs(marks.grams, order, order[:sample], config.threshold)
    while len(pairs) > MOST_PAIRS and sample > 1:
        sample = max(sample // FEWER, 1)
        pairs = _pairs(marks.grams, order, order[:sample], config.threshold)
    bands = Bands(marks.grams.take(order[:sample]), *plan_bands(config.threshold, config.recall))
    keys, told, found = bands.keys(0, bands.count), 0, 0
    for first in range(0, len(pairs), BLOCK):
        left, right = pairs[first : first + BLOCK].T
        one, other = order[left], order[right]
        apart = (marks.length[one] <= config.short_words) | (marks.length[other] <= config.short_words)
        apart &= marks.content[one] != marks.content[other]
        left, other = left[~apart], other[~apart]
        theirs = replace(bands, grams=marks.grams.take(other)).keys(0, bands.count)
        seen = (keys[:, left] == theirs).any(axis=0)
        if stays is not None:
            seen &= ~(stays[order[left]] & stays[other])
        told, found = told + len(left), found + int(seen.sum())
    return Recall(told, found)


def _pairs(
    grams: Shingles, order: Int64[np.ndarray, " k"], some: Int64[np.ndarray, " sample"], threshold: float
) -> Int64[np.ndarray, "pairs 2"]:
    """(place in the sample, place in `order`) of all pairs at the threshold or above; each pair of a sample once.

    Of more than MOST_PAIRS only so many that this can be told, unless the sample is a single caption.
    """
    sample = grams.take(some)
    place_of = np.full(len(grams.offsets) - 1, -1, np.int32)
    place_of[order] = np.arange(len(order))
    rare, text = _rarest(sample, grams.take(order[: max(COUNTED, len(sample.offsets))]), threshold)
    by_hash = np.argsort(rare, kind="stable")
    known, starts = np.unique(rare[by_hash], return_index=True)
    starts = np.append(starts, len(by_hash))
    maybe = np.zeros(1 << 20, bool)
    maybe[known >> np.uint32(12)] = True
    found, left = [np.zeros((0, 2), np.int64)], MOST_PAIRS + 1 if len(some) > 1 else len(order)
    for first in range(0, len(place_of), FILE_BLOCK):
        last = min(first + FILE_BLOCK, len(place_of))
        found.append(
            _compare(
                grams.hashes,
                grams.offsets,
                first,
                last,
                place_of,
                known,
                starts,
                text[by_hash],
                sample.hashes,
                sample.offsets,
                maybe,
                threshold,
                left,
            )
        )
        forget(grams.hashes)
        left -= len(found[-1])
    return np.concatenate(found)


def _rarest(
    sample: Shingles, counted: Shingles, threshold: float
) -> tuple[UInt32[np.ndarray, " grams"], Int32[np.ndarray, " grams"]]:
    """Of each text so many of its rarest n-grams that any text like it holds one of them; and whose they are.

    What is rare is told by `counted`, which the texts are among. It decides the time that is saved, and no pair.
    """
    sizes = np.diff(sample.offsets)
    known, times = np.unique(counted.hashes, return_counts=True)
    held = times[np.searchsorted(known, sample.hashes)]
    text = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    order = np.lexsort((sample.hashes, held, text))
    place = np.arange(len(order)) - np.repeat(sample.offsets[:-1], sizes)
    few = place < np.repeat(sizes - least_shared(sizes, threshold) + 1, sizes)
    return sample.hashes[order[few]], text[few]


def least_shared(sizes: Int64[np.ndarray, " n"], threshold: float) -> Int64[np.ndarray, " n"]:
    """How many n-grams of a set of this size another must hold: the least whole number c with c / size >= threshold.

    The Jaccard similarity is c over the union, which is no smaller than the set; and rounding keeps the order.
    """
    least = np.maximum(np.ceil(threshold * sizes).astype(np.int64) - 1, 1)
    for _ in range(2):
        least += least / np.maximum(sizes, 1) < threshold
    return least


@numba.njit(cache=True)
def _compare(
    hashes: np.ndarray, offsets: np.ndarray, first: int, last: int, place_of: np.ndarray, known: np.ndarray,
    starts: np.ndarray, holders: np.ndarray, sample: np.ndarray, ends: np.ndarray, maybe: np.ndarray, threshold: float,
    most: int,
) -> np.ndarray:  # fmt: skip
    """Up to `most` pairs of these texts with those of the sample."""
    met = np.full(len(ends) - 1, -1, np.int64)
    out, count = np.empty((1024, 2), np.int64), 0
    for i in range(first, last):
        place = place_of[i]
        if count >= most:
            break
        if place < 0:
            continue
        mine = hashes[offsets[i] : offsets[i + 1]]
        for gram in mine:
            if not maybe[gram >> np.uint32(12)]:
                continue
            slot = np.searchsorted(known, gram)
            if slot == len(known) or known[slot] != gram:
                continue
            for j in holders[starts[slot] : starts[slot + 1]]:
                if j >= place or met[j] == i:
                    continue
                met[j] = i
                theirs = sample[ends[j] : ends[j + 1]]
                common = _shared(mine, theirs)
                if common / (len(mine) + len(theirs) - common) < threshold:
                    continue
                if count == len(out):
                    grown = np.empty((2 * count, 2), np.int64)
                    grown[:count] = out
                    out = grown
                out[count, 0], out[count, 1] = j, place
                count += 1
    return out[:count]


@numba.njit(cache=True)
def _shared(a: np.ndarray, b: np.ndarray) -> int:
    """How many numbers two ascending sets share."""
    at = other = common = 0
    while at < len(a) and other < len(b):
        common += int(a[at] == b[other])
        step = a[at] <= b[other]
        other += int(b[other] <= a[at])
        at += int(step)
    return common
