"""k-center over the words of captions: the choice that always takes the caption farthest from all chosen ones.

A caption is the set of its words and word pairs, each weighted by its rarity; the distance of two is 1 minus their
cosine (Gonzalez 1985 for the choice). A caption is near only to those that share a term with it, so distances come from
lists of who holds a term, and no vector is made. Weights are whole numbers, so sums of their products are exact and
depend on neither threads nor order.
"""

from dataclasses import dataclass

import numba
import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt32

from lightgen.decisions.shingles import Shingles, Words, ngrams

STEPS = 64.0  # of a weight to one unit of log rarity
MAX_BITS = 24
SLOTS_AT_ONCE = 1 << 18  # whose weights are worked out together: a logarithm of all would take half a gigabyte


def terms_of(words: Words) -> Shingles:
    """The words and word pairs of each text as one set."""
    single, pairs = ngrams(words, 1), ngrams(words, 2)
    return Shingles(*_merged(single.hashes, single.offsets, pairs.hashes, pairs.offsets))


@dataclass(frozen=True)
class Rarity:
    """The weight of a term by the upper bits of its hash: log(1 + texts / texts that hold it), in whole steps."""

    weights: UInt32[np.ndarray, " slots"]

    @staticmethod
    def of(terms: Shingles) -> "Rarity":
        """Rarity among these texts. Terms of one slot count together; there are up to 2^MAX_BITS slots."""
        texts, bits = len(terms.offsets) - 1, min(MAX_BITS, max(10, (8 * len(terms.hashes)).bit_length()))
        holders = _count(terms.hashes, np.zeros(1 << bits, np.uint32), 32 - bits)
        for some in np.split(holders, range(SLOTS_AT_ONCE, len(holders), SLOTS_AT_ONCE)):
            some[:] = np.rint(STEPS * np.log1p(texts / np.maximum(some, 1)))
        return Rarity(holders)

    @property
    def shift(self) -> int:
        """How far a hash is shifted to name its slot."""
        return 32 - (len(self.weights) - 1).bit_length()


def far_apart(
    terms: Shingles,
    rarity: Rarity,
    starts: Int64[np.ndarray, " parts_1"],
    counts: Int64[np.ndarray, " parts"],
    kept: Bool[np.ndarray, " n"],
) -> tuple[Int64[np.ndarray, " k"], Float32[np.ndarray, " k"]]:
    """In each part, `counts` texts in order of choice and their distance (0 to 1) to those before; 1 of the first.

    Part p holds texts starts[p] to before starts[p + 1]. Those that are `kept` are taken first, then from the farthest
    down; of equally far ones, and where nothing is kept, the first. Time: texts x chosen x a few additions, part by
    part on all cores; memory: 60 bytes a term and 30 bytes a text of the parts at work.
    """
    places = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    chosen, novelty = np.empty(places[-1], np.int64), np.empty(places[-1], np.float32)
    _parts(terms.hashes, terms.offsets, rarity.weights, rarity.shift, starts, places, kept, chosen, novelty)
    return chosen, novelty


def nearest(terms: Shingles, rarity: Rarity, centres: Int64[np.ndarray, " k"]) -> Int64[np.ndarray, " n"]:
    """For each text the place in `centres` of the nearest one, the first of equally near ones; -1 where none is near.

    Texts that share no term are at the greatest distance, so none of them is near. Time: as `far_apart`; memory: 60
    bytes a term of the centres.
    """
    return _nearest(terms.hashes, terms.offsets, rarity.weights, rarity.shift, centres)


@numba.njit(cache=True)
def _merged(a: np.ndarray, a_at: np.ndarray, b: np.ndarray, b_at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The union of two sorted sets of each text."""
    out, offsets, write = np.empty(len(a) + len(b), a.dtype), np.zeros(len(a_at), np.int64), 0
    for i in range(len(a_at) - 1):
        j, k = a_at[i], b_at[i]
        while j < a_at[i + 1] or k < b_at[i + 1]:
            left = k == b_at[i + 1] or (j < a_at[i + 1] and a[j] <= b[k])
            value = a[j] if left else b[k]
            if j < a_at[i + 1] and a[j] == value:
                j += 1
            if k < b_at[i + 1] and b[k] == value:
                k += 1
            out[write] = value
            write += 1
        offsets[i + 1] = write
    return out[:write].copy(), offsets


@numba.njit(cache=True)
def _count(hashes: np.ndarray, out: np.ndarray, shift: int) -> np.ndarray:
    for at in range(len(hashes)):
        out[hashes[at] >> np.uint32(shift)] += 1
    return out


@numba.njit(cache=True, parallel=True)
def _parts(
    hashes: np.ndarray, offsets: np.ndarray, weights: np.ndarray, shift: int, starts: np.ndarray, places: np.ndarray,
    kept: np.ndarray, chosen: np.ndarray, novelty: np.ndarray,
) -> None:  # fmt: skip
    for p in numba.prange(len(starts) - 1):
        first, last, at = starts[p], starts[p + 1], slice(places[p], places[p + 1])
        mine = hashes[offsets[first] : offsets[last]]
        within = offsets[first : last + 1] - offsets[first]
        _greedy(mine, within, weights, shift, kept[first:last], chosen[at], novelty[at])
        chosen[at] += first


@numba.njit(cache=True)
def _numbered(hashes: np.ndarray) -> tuple[np.ndarray, int]:
    """A number below how many distinct hashes there are, equal for equal hashes; and how many."""
    size = 16
    while size < 2 * len(hashes):
        size *= 2
    slots, out, count = np.full(size, -1, np.int64), np.empty(len(hashes), np.int32), 0
    first = np.empty(len(hashes), hashes.dtype)
    for at in range(len(hashes)):
        slot = np.int64(hashes[at]) & (size - 1)
        while slots[slot] >= 0 and first[slots[slot]] != hashes[at]:
            slot = (slot + 1) % size
        if slots[slot] < 0:
            slots[slot], first[count] = count, hashes[at]
            count += 1
        out[at] = slots[slot]
    return out, count


@numba.njit(cache=True)
def _greedy(
    hashes: np.ndarray, offsets: np.ndarray, weights: np.ndarray, shift: int, kept: np.ndarray, chosen: np.ndarray,
    novelty: np.ndarray,
) -> None:  # fmt: skip
    """The choice in one part; see `far_apart`."""
    n = len(offsets) - 1
    term, count = _numbered(hashes)
    square, length = np.zeros(count), np.zeros(n)
    starts = np.zeros(count + 1, np.int64)
    for i in range(n):
        for at in range(offsets[i], offsets[i + 1]):
            weight = np.float64(weights[hashes[at] >> np.uint32(shift)])
            square[term[at]] = weight * weight
            length[i] += weight * weight
            starts[term[at] + 1] += 1
    inverse = np.array([1 / np.sqrt(one) if one > 0 else 0.0 for one in length])
    starts = np.cumsum(starts)
    filled, holders = starts[:-1].copy(), np.empty(len(hashes), np.int32)
    for i in range(n):
        for at in range(offsets[i], offsets[i + 1]):
            holders[filled[term[at]]] = i
            filled[term[at]] += 1
    products, nearest = np.zeros(n), np.zeros(n)  # the greatest cosine with a chosen text, 2 of chosen ones
    forced = np.flatnonzero(kept)
    best = forced[0] if len(forced) else 0
    for place in range(len(chosen)):
        chosen[place] = best
        novelty[place] = 1 - nearest[best]
        for at in range(offsets[best], offsets[best + 1]):
            for k in range(starts[term[at]], starts[term[at] + 1]):
                products[holders[k]] += square[term[at]]
        mine = inverse[best]
        for j in range(n):
            nearest[j] = max(nearest[j], min(products[j] * inverse[j] * mine, 1.0))
            products[j] = 0
        nearest[best] = 2
        if place + 1 < len(forced):
            best = forced[place + 1]
            continue
        farthest = 3.0
        for j in range(n):
            if nearest[j] < farthest:
                farthest, best = nearest[j], j


@numba.njit(cache=True)
def _nearest(
    hashes: np.ndarray, offsets: np.ndarray, weights: np.ndarray, shift: int, centres: np.ndarray
) -> np.ndarray:
    """See `nearest`: terms of the centres in order, each with who holds it, are looked up for every text."""
    total = 0
    for centre in centres:
        total += offsets[centre + 1] - offsets[centre]
    terms, holders, inverse = np.empty(total, hashes.dtype), np.empty(total, np.int64), np.zeros(len(centres))
    write = 0
    for k in range(len(centres)):
        length = 0.0
        for at in range(offsets[centres[k]], offsets[centres[k] + 1]):
            terms[write], holders[write] = hashes[at], k
            length += np.float64(weights[hashes[at] >> np.uint32(shift)]) ** 2
            write += 1
        inverse[k] = 1 / np.sqrt(length) if length > 0 else 0.0
    order = np.argsort(terms, kind="mergesort")
    terms, holders = terms[order], holders[order]
    out, products = np.full(len(offsets) - 1, -1, np.int64), np.zeros(len(centres))
    for i in range(len(out)):
        products[:] = 0
        for at in range(offsets[i], offsets[i + 1]):
            k = np.searchsorted(terms, hashes[at])
            while k < total and terms[k] == hashes[at]:
                products[holders[k]] += np.float64(weights[hashes[at] >> np.uint32(shift)]) ** 2
                k += 1
        greatest = 0.0
        for k in range(len(centres)):
            if products[k] * inverse[k] > greatest:
                greatest, out[i] = products[k] * inverse[k], k
    return out
