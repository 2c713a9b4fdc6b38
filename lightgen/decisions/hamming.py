"""Which of many 64-bit hashes repeat an earlier one, by the number of bits in which they differ. Exact.

Two hashes that differ in at most `bits` bits agree in at least `agreeing` of `bits + agreeing` disjoint parts (the
pigeonhole principle; Manku et al. 2007). There is one table for each choice of that many parts, and a hash is compared
only with those in its buckets.
"""

from itertools import combinations
from math import comb
from typing import Any

import numba
import numpy as np
from jaxtyping import Int64, UInt64

BITS = 64
TABLES = 16  # at most: memory grows with them
VISIT = 150  # what looking into a bucket costs, in comparisons


def repeated(
    hashes: UInt64[np.ndarray, " n"], groups: Int64[np.ndarray, " n"], bits: int, agreeing: int | None = None
) -> Int64[np.ndarray, " n"]:
    """Whom each hash repeats: the position of the first *kept* hash of its group within `bits` bits; -1 if kept.

    Earlier positions are kept first. So kept hashes of a group differ pairwise in more than `bits` bits, and every
    other one is within `bits` of the kept one that is named. `agreeing` sets the tables; None: the cheapest.

    Time: for evenly spread hashes T (n + n^2 / 2^w) with T = C(bits + agreeing, agreeing) tables and keys of
    w = 64 agreeing / (bits + agreeing) bits: near linear for 4 bits up to 10^7 hashes. At worst kept x n: for more than
    14 bits, or where the kept hashes of a group crowd into one bucket. Memory: 20 to 28 bytes a row and table, at most
    TABLES of them.
    """
    assert 0 <= bits <= BITS
    sizes = np.unique(groups, return_counts=True)[1].astype(float)
    if agreeing is None:
        agreeing = plan(len(hashes), float(np.square(sizes).sum() / 2), bits)
    return _repeated(hashes, groups, key_masks(bits, agreeing), _log2(len(hashes)), bits)


def plan(n: int, pairs: float, bits: int) -> int:
    """How many parts make the cheapest keys, for n hashes with so many pairs within groups; 0: all are compared."""
    costs = []
    for agreeing in range(BITS - bits + 1):
        tables = comb(bits + agreeing, agreeing)
        if tables <= TABLES:
            width = BITS * agreeing // max(bits + agreeing, 1)
            costs.append((tables * (n * VISIT + pairs / 2 ** min(width, _log2(n))), agreeing))
    return min(costs)[1]


def key_masks(bits: int, agreeing: int) -> UInt64[np.ndarray, " tables"]:
    """The bits of a hash that make the key of each table."""
    # Neighbouring bits of an image's hash are alike, so every part has bits from all over the hash.
    parts = [sum(1 << bit for bit in range(part, BITS, bits + agreeing)) for part in range(bits + agreeing)]
    return np.array([sum(chosen) for chosen in combinations(parts, agreeing)], np.uint64)


def _log2(n: int) -> int:
    """Bits of a bucket's number: about as many buckets as hashes."""
    return max(int(n).bit_length() - 1, 1)


@numba.njit(nogil=True, inline="always")
def differing_bits(a: Any, b: Any) -> Any:
    """Bits in which two uint64 differ, as uint64."""
    # LLVM knows this idiom and makes it one instruction, eight at a time where the machine can.
    x = a ^ b
    x = x - ((x >> np.uint64(1)) & np.uint64(0x5555555555555555))
    x = (x & np.uint64(0x3333333333333333)) + ((x >> np.uint64(2)) & np.uint64(0x3333333333333333))
    x = (x + (x >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return (x * np.uint64(0x0101010101010101)) >> np.uint64(56)


@numba.njit(nogil=True, inline="always")
def _bucket(value: Any, group: Any, shift: Any) -> Any:
    x = value ^ (np.uint64(group) * np.uint64(0x9E3779B97F4A7C15))
    x = (x ^ (x >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    x = (x ^ (x >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    return np.int64(x >> shift)


@numba.njit(nogil=True, cache=True)
def _least(one: Any, others: np.ndarray) -> Any:
    """Bits to the nearest of `others`."""
    # This loop must stay as it is to be vectorised: a slice, unsigned numbers, one `min`. Five times faster.
    least = np.uint64(BITS)
    for k in range(len(others)):
        least = min(least, differing_bits(one, others[k]))
    return least


@numba.njit(nogil=True, cache=True)
def _repeated(hashes: np.ndarray, groups: np.ndarray, masks: np.ndarray, log2: int, bits: int) -> np.ndarray:
    """[n] int64. Bucket b of a table is slots[starts[b] : starts[b] + filled[b]] and holds kept hashes only."""
    n, tables, shift, most = len(hashes), len(masks), np.uint64(BITS - log2), np.uint64(bits)
    starts = np.zeros((tables, (1 << log2) + 1), np.int32)
    filled = np.zeros((tables, 1 << log2), np.int32)
    for t in range(tables):
        for i in range(n):
            starts[t, _bucket(hashes[i] & masks[t], groups[i], shift) + 1] += 1
        starts[t] = np.cumsum(starts[t])
    slots, owners = np.empty((tables, n), np.uint64), np.empty((tables, n), np.int32)
    out = np.full(n, -1, np.int64)
    for i in range(n):
        first = n
        for t in range(tables):
            bucket = _bucket(hashes[i] & masks[t], groups[i], shift)
            begin, end = starts[t, bucket], starts[t, bucket] + filled[t, bucket]
            if begin == end or _least(hashes[i], slots[t, begin:end]) > most:
                continue
            for at in range(begin, end):
                if differing_bits(hashes[i], slots[t, at]) <= most and groups[owners[t, at]] == groups[i]:
                    # The members of a bucket stand in order, so this is its first.
                    first = min(first, np.int64(owners[t, at]))
                    break
        if first < n:
            out[i] = first
            continue
        for t in range(tables):
            bucket = _bucket(hashes[i] & masks[t], groups[i], shift)
            at = starts[t, bucket] + filled[t, bucket]
            slots[t, at], owners[t, at] = hashes[i], i
            filled[t, bucket] += 1
    return out
