"""How many near-duplicates the bands find: some captions compared with all, without any signature."""

from typing import NamedTuple

import numba
import numpy as np
from jaxtyping import Int64

from lightgen.decisions.mapped import forget
from lightgen.decisions.minhash import Bands, plan_bands
from lightgen.decisions.near_duplicates import Marks, NearDuplicateConfig
from lightgen.decisions.shingles import FILE_BLOCK, Shingles

SAMPLE = 1000


class Recall(NamedTuple):
    """Pairs of a sample with all captions that are at the threshold or above, and those that share a band."""

    pairs: int
    found: int


def recall(marks: Marks, order: Int64[np.ndarray, " k"], config: NearDuplicateConfig, sample: int = SAMPLE) -> Recall:
    """Of the captions that `order` names, the first `sample` compared with all.

    Time: sample x captions that share an n-gram; memory: 4 bytes a caption.
    """
    some = order[:sample]
    left, right = _pairs(marks.grams, order, marks.grams.take(some), config.threshold)
    if not len(left):
        return Recall(0, 0)
    apart = (marks.length[some[left]] <= config.short_words) | (marks.length[order[right]] <= config.short_words)
    apart &= marks.content[some[left]] != marks.content[order[right]]
    left, right = left[~apart], right[~apart]
    bands, rows = plan_bands(config.threshold, config.recall)
    mine, theirs = (
        Bands(marks.grams.take(rows_of), bands, rows).keys(0, bands) for rows_of in (some[left], order[right])
    )
    return Recall(len(left), int((mine == theirs).any(axis=0).sum()))


def _pairs(
    grams: Shingles, order: np.ndarray, sample: Shingles, threshold: float
) -> tuple[Int64[np.ndarray, " pairs"], Int64[np.ndarray, " pairs"]]:
    """(place in the sample, place in `order`) of all pairs at the threshold or above; each pair of a sample once."""
    place_of = np.full(len(grams.offsets) - 1, -1, np.int32)
    place_of[order] = np.arange(len(order))
    text = np.repeat(np.arange(len(sample.offsets) - 1), np.diff(sample.offsets)).astype(np.int32)
    by_hash = np.argsort(sample.hashes, kind="stable")
    known, starts = np.unique(sample.hashes[by_hash], return_index=True)
    starts = np.append(starts, len(by_hash))
    maybe = np.zeros(1 << 20, bool)
    maybe[known >> np.uint32(12)] = True
    sizes = np.diff(sample.offsets)
    found = [np.zeros((0, 2), np.int64)]
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
                sizes,
                maybe,
                threshold,
            )
        )
        forget(grams.hashes)
    left, right = np.concatenate(found).T
    return left, right


@numba.njit(cache=True)
def _compare(
    hashes: np.ndarray, offsets: np.ndarray, first: int, last: int, place_of: np.ndarray, known: np.ndarray,
    starts: np.ndarray, holders: np.ndarray, sizes: np.ndarray, maybe: np.ndarray, threshold: float,
) -> np.ndarray:  # fmt: skip
    shared, met = np.zeros(len(sizes), np.int64), np.empty(len(sizes), np.int64)
    out, count = np.empty((1024, 2), np.int64), 0
    for i in range(first, last):
        place, seen = place_of[i], 0
        if place < 0:
            continue
        for at in range(offsets[i], offsets[i + 1]):
            if not maybe[hashes[at] >> np.uint32(12)]:
                continue
            slot = np.searchsorted(known, hashes[at])
            if slot == len(known) or known[slot] != hashes[at]:
                continue
            for k in range(starts[slot], starts[slot + 1]):
                if shared[holders[k]] == 0:
                    met[seen] = holders[k]
                    seen += 1
                shared[holders[k]] += 1
        mine = offsets[i + 1] - offsets[i]
        for k in range(seen):
            j, common = met[k], shared[met[k]]
            shared[j] = 0
            if j < place and common / (mine + sizes[j] - common) >= threshold:
                if count == len(out):
                    grown = np.empty((2 * count, 2), np.int64)
                    grown[:count] = out
                    out = grown
                out[count, 0], out[count, 1] = j, place
                count += 1
    return out[:count]
