"""Texts none of which are alike: the lexicographically first maximal independent set, found without storing an edge.

When its turn comes, a text is compared with the kept ones of its buckets; it is kept if it is like none of them. What
is alike is told by `similarity`, which is another for each kind of text: numba knows it by the type.
"""

# numba's `overload` is given functions that only numba calls.
# pyright: reportUnusedFunction=false

from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np
from jaxtyping import Bool, Int64, UInt32, UInt64
from numba.extending import overload

from lightgen.decisions.buckets import LIMIT, Buckets, by_text
from lightgen.decisions.shingles import Shingles

CROWD = 64  # kept texts of a larger bucket that a text is compared with
Alike = Callable[[Any, int, int, float], float]


class Texts(NamedTuple):
    """What makes texts alike, in order of priority.

    hashes, offsets: their n-grams, as in `Shingles`
    words: a hash of their words but for fillers
    short: whether those words must be equal
    """

    hashes: UInt32[np.ndarray, " grams"]
    offsets: Int64[np.ndarray, " n_1"]
    words: UInt64[np.ndarray, " n"]
    short: Bool[np.ndarray, " n"]

    @staticmethod
    def of(grams: Shingles, words: UInt64[np.ndarray, " n"], short: Bool[np.ndarray, " n"]) -> "Texts":
        """Texts with these n-grams."""
        return Texts(grams.hashes, grams.offsets, words, short)

    def take(self, texts: Int64[np.ndarray, " k"]) -> "Texts":
        """Some of the texts."""
        return Texts.of(Shingles(self.hashes, self.offsets).take(texts), self.words[texts], self.short[texts])


def first_same(texts: Texts) -> Int64[np.ndarray, " n"]:
    """The first text with the same n-grams, words and length; itself if there is none before, or it has no n-gram."""
    marks = _marks(texts)
    return _first_same(np.argsort(marks, kind="stable"), marks, texts)


def similarity(texts: Any, i: int, j: int, least: float) -> float:
    """How alike two texts are, by the type of `texts`; any number below `least` where that is. See `similar_by`."""
    raise NotImplementedError(f"only compiled functions ask how alike two of {type(texts).__name__} are")


def similar_by(kind: type) -> Callable[[Alike], Alike]:
    """Makes a compiled function the similarity of texts of this NamedTuple."""

    def known(compiled: Alike) -> Alike:
        @overload(similarity, strict=False)  # strict: no annotations
        def _of(texts: Any, i: int, j: int, least: float) -> Alike | None:
            mine = getattr(texts, "instance_class", None) is kind
            return (lambda texts, i, j, least: compiled(texts, i, j, least)) if mine else None

        return compiled

    return known


def first_kept(texts: Any, n: int, buckets: Buckets, threshold: float) -> tuple[Int64[np.ndarray, " n"], int, int]:
    """For each of `n` texts the first kept one that is alike, -1 if it is kept itself; pairs compared; pairs skipped.

    Two texts are alike if they share a bucket and their similarity is at least `threshold`. In a bucket of more than
    LIMIT texts only the CROWD kept ones that are nearest before a text are compared, the others skipped.
    """
    mine, starts = by_text(buckets, n)
    twin, compared, skipped = _first_kept(buckets.members, buckets.starts, mine, starts, texts, threshold)
    return twin, int(compared), int(skipped)


@similar_by(Texts)
@numba.njit(cache=True)
def _jaccard(texts: Any, i: int, j: int, least: float) -> float:
    """Jaccard similarity of two sets of n-grams that are not empty; 0 where the rule of short texts parts them.

    Sets of sizes so different that it cannot reach `least` are not read, others only as long as it still can.
    """
    if (texts.short[i] or texts.short[j]) and texts.words[i] != texts.words[j]:
        return 0.0
    hashes, a, b = texts.hashes, texts.offsets[i], texts.offsets[j]
    a_end, b_end = texts.offsets[i + 1], texts.offsets[j + 1]
    both = a_end - a + b_end - b
    needed = _least_common(both, least)
    # How many n-grams of each may have none of the other that is equal.
    a_spare, b_spare = a_end - a - needed, b_end - b - needed
    common = 0
    while a < a_end and b < b_end and a_spare >= 0 and b_spare >= 0:
        if hashes[a] == hashes[b]:
            common += 1
            a += 1
            b += 1
        elif hashes[a] < hashes[b]:
            a += 1
            a_spare -= 1
        else:
            b += 1
            b_spare -= 1
    return common / (both - common)


@numba.njit(cache=True)
def _least_common(both: int, least: float) -> int:
    """How many n-grams two sets of `both` together must share for a Jaccard similarity of at least `least`."""
    common = max(int(least * both / (1 + least)) - 1, 0)
    while common / (both - common) < least:
        common += 1
    return common


@numba.njit(cache=True)
def _marks(texts: Any) -> np.ndarray:
    """uint64 [n]: a hash of all that `Texts` holds of a text."""
    out = np.empty(len(texts.words), np.uint64)
    for i in range(len(out)):
        value = texts.words[i] ^ np.uint64(texts.short[i])
        for at in range(texts.offsets[i], texts.offsets[i + 1]):
            value = (value ^ np.uint64(texts.hashes[at])) * np.uint64(0x100000001B3)
            value ^= value >> np.uint64(29)
        out[i] = value
    return out


@numba.njit(cache=True)
def _first_same(order: np.ndarray, marks: np.ndarray, texts: Any) -> np.ndarray:
    out = np.arange(len(order))
    first = 0
    for at in range(len(order)):
        i, j = order[at], order[first]
        if marks[i] != marks[j]:
            first = at
        elif texts.words[i] == texts.words[j] and texts.short[i] == texts.short[j] and _equal(texts, i, j):
            out[i] = j
    return out


@numba.njit(cache=True)
def _equal(texts: Any, i: int, j: int) -> bool:
    mine = texts.hashes[texts.offsets[i] : texts.offsets[i + 1]]
    theirs = texts.hashes[texts.offsets[j] : texts.offsets[j + 1]]
    return 0 < len(mine) == len(theirs) and bool(np.all(mine == theirs))


@numba.njit(cache=True)
def _first_kept(
    members: np.ndarray, starts: np.ndarray, mine: np.ndarray, mine_starts: np.ndarray, texts: Any, threshold: float
) -> tuple[np.ndarray, int, int]:
    """See `first_kept`. The kept members of a bucket gather at its front."""
    n = len(mine_starts) - 1
    members, filled = members.copy(), np.zeros(len(starts) - 1, np.int64)
    twin, met = np.full(n, -1, np.int64), np.full(n, -1, np.int32)
    compared = skipped = 0
    for i in range(n):
        first = n
        for bucket in mine[mine_starts[i] : mine_starts[i + 1]]:
            end = starts[bucket] + filled[bucket]
            begin = max(starts[bucket], end - (LIMIT if starts[bucket + 1] - starts[bucket] <= LIMIT else CROWD))
            skipped += int(begin - starts[bucket])
            for at in range(begin, end):
                j = members[at]
                if j >= first:
                    break
                if met[j] != i:
                    met[j] = i
                    compared += 1
                    if similarity(texts, i, j, threshold) >= threshold:
                        first = j
        if first < n:
            twin[i] = first
            continue
        for bucket in mine[mine_starts[i] : mine_starts[i + 1]]:
            members[starts[bucket] + filled[bucket]] = i
            filled[bucket] += 1
    return twin, compared, skipped
