"""Texts that share a band of their MinHash signatures, in buckets of a bounded size."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numba
import numpy as np
from jaxtyping import Int32, Int64, UInt64

LIMIT = 256  # texts that a bucket should hold at most
GROUP = 4  # bands whose keys are held at once


class Banded(Protocol):
    """Texts with a key in each of `count` bands, made when they are asked for."""

    @property
    def count(self) -> int:
        """Bands."""
        ...

    def keys(self, first: int, last: int) -> UInt64[np.ndarray, "bands n"]:
        """The keys of all texts in the bands from `first` to before `last`."""
        ...

    def keys_of(self, band: int, texts: Int64[np.ndarray, " k"]) -> UInt64[np.ndarray, " k"]:
        """The keys of some texts in one band."""
        ...


@dataclass(frozen=True)
class Buckets:
    """Bucket b holds members[starts[b] : starts[b + 1]], ascending; all hold two or more."""

    members: Int32[np.ndarray, " entries"]
    starts: Int64[np.ndarray, " buckets_1"]


def share_a_band(bands: Banded) -> Buckets:
    """The buckets of all bands that hold two or more texts, band by band.

    A bucket of more than LIMIT is there as a whole, and is split by the keys of the next band, and so on until it fits
    or the bands end. So who shares a bucket depends on the keys alone, not on the order of texts. Time: bands x n.
    Memory: the keys of GROUP bands, 8 bytes each a text, and 4 bytes for each bucket that a text is in, of which there
    are at most two a band.
    """
    found = [part for first in range(0, bands.count, GROUP) for part in _group(bands, first)]
    members = np.concatenate([np.zeros(0, np.int32), *(part for part, _ in found)])
    sizes = np.concatenate([np.zeros(0, np.int64), *(size for _, size in found)])
    return Buckets(members, np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)]))


def by_text(buckets: Buckets, n: int) -> tuple[Int32[np.ndarray, " entries"], Int64[np.ndarray, " n_1"]]:
    """The buckets of each text, ascending: text i is in buckets[starts[i] : starts[i + 1]]."""
    starts = np.concatenate([[0], np.cumsum(np.bincount(buckets.members, minlength=n))])
    return _by_text(buckets.members, buckets.starts, starts), starts


def _group(bands: Banded, first: int) -> list[tuple[np.ndarray, np.ndarray]]:
    last = min(first + GROUP, bands.count)
    keys = bands.keys(first, last)
    return [part for band in range(first, last) for part in _band(bands, keys[band - first], band)]


def _band(bands: Banded, key: UInt64[np.ndarray, " n"], band: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(members, sizes) of the buckets of one band, some at a time."""
    members = _not_alone(key)
    members, sizes = _sorted_by(key[members], members)
    label = np.zeros(0, np.int32)
    # As a whole too: a text that a further band parts from the crowd may be like it all the same.
    yield members[np.repeat(sizes > LIMIT, sizes)], sizes[sizes > LIMIT]
    while True:
        fits, crowded = (sizes > 1) & (sizes <= LIMIT), sizes > LIMIT
        yield members[np.repeat(fits, sizes)], sizes[fits]
        members, sizes = members[np.repeat(crowded, sizes)], sizes[crowded]
        band += 1
        if not len(members) or band == bands.count:
            return
        label = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
        further = bands.keys_of(band, members)
        order = np.lexsort((further, label))
        members, sizes = members[order], _runs(further[order], label[order])


def _sorted_by(key: np.ndarray, members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ascending `members` sorted by key, and the lengths of runs of equal keys."""
    # Upper bits and place in one number: sorting numbers is many times faster than sorting places by key.
    low = np.uint64(max(len(members), 1).bit_length())
    packed = np.sort((key >> low << low) | np.arange(len(members), dtype=np.uint64))
    order = (packed & ((np.uint64(1) << low) - np.uint64(1))).astype(np.int64)
    upper, full = packed >> low, key[order]
    mixed = (upper[1:] == upper[:-1]) & (full[1:] != full[:-1])
    if mixed.any():  # keys that differ in their lower bits alone
        these = np.isin(upper, upper[1:][mixed])
        order[these] = order[these][np.lexsort((order[these], full[these]))]
    return members[order], _runs(key[order])


def _runs(key: np.ndarray, label: np.ndarray | None = None) -> np.ndarray:
    """Lengths of runs of equal keys, of one label where there are labels."""
    if not len(key):
        return np.zeros(0, np.int64)
    ends = key[1:] != key[:-1]
    if label is not None:
        ends |= label[1:] != label[:-1]
    return np.diff(np.concatenate([[-1], np.flatnonzero(ends), [len(key) - 1]]))


def _not_alone(key: UInt64[np.ndarray, " n"]) -> Int32[np.ndarray, " k"]:
    """The texts, ascending, whose key may be another's too."""
    return _crowded(key, np.uint64(64 - max(10, (4 * len(key)).bit_length())))


@numba.njit(cache=True)
def _crowded(key: np.ndarray, shift: np.uint64) -> np.ndarray:
    seen = np.zeros(np.uint64(1) << (np.uint64(64) - shift), np.uint8)
    for i in range(len(key)):
        slot = (key[i] * np.uint64(0x9E3779B97F4A7C15)) >> shift
        if seen[slot] < 2:
            seen[slot] += 1
    out = np.empty(len(key), np.int32)
    found = 0
    for i in range(len(key)):
        if seen[(key[i] * np.uint64(0x9E3779B97F4A7C15)) >> shift] > 1:
            out[found] = i
            found += 1
    return out[:found].copy()


@numba.njit(cache=True)
def _by_text(members: np.ndarray, starts: np.ndarray, places: np.ndarray) -> np.ndarray:
    out, filled = np.empty(len(members), np.int32), places[:-1].copy()
    for bucket in range(len(starts) - 1):
        for at in range(starts[bucket], starts[bucket + 1]):
            out[filled[members[at]]] = bucket
            filled[members[at]] += 1
    return out
