"""Texts that share a band of their MinHash signatures, in buckets of a bounded size."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int32, Int64, UInt64

LIMIT = 256  # texts that a bucket should hold at most


@dataclass(frozen=True)
class Buckets:
    """Bucket b holds members[starts[b] : starts[b + 1]], ascending; all hold two or more."""

    members: Int32[np.ndarray, " entries"]
    starts: Int64[np.ndarray, " buckets_1"]


def share_a_band(keys: UInt64[np.ndarray, "bands n"], texts: Int64[np.ndarray, " k"]) -> Buckets:
    """The buckets of all bands that hold two or more of `texts` (ascending), band by band.

    A bucket of more than LIMIT is split by the keys of the next band, and so on until it fits or the bands end. So who
    shares a bucket hangs on the keys alone, not on the order of texts. Time: bands x n log n. Memory: 16 bytes a text,
    and 4 bytes for each bucket that a text is in, of which there are at most as many as bands.
    """
    found = [part for band in range(len(keys)) for part in _band(keys, band, texts)]
    members, sizes = (
        np.concatenate([np.zeros(0, kind), *parts])
        for kind, parts in zip((np.int32, np.int64), zip(*found, strict=True), strict=False)
    )
    return Buckets(members, np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)]))


def by_text(buckets: Buckets, n: int) -> tuple[Int32[np.ndarray, " entries"], Int64[np.ndarray, " n_1"]]:
    """The buckets of each text: text i is in buckets[starts[i] : starts[i + 1]]."""
    number = np.repeat(np.arange(len(buckets.starts) - 1, dtype=np.int32), np.diff(buckets.starts))
    counts = np.bincount(buckets.members, minlength=n)
    return number[np.argsort(buckets.members, kind="stable")], np.concatenate([[0], np.cumsum(counts)])


def _band(keys: np.ndarray, band: int, texts: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(members, sizes) of the buckets of one band, some at a time."""
    members = _not_alone(keys[band], texts).astype(np.int32)
    label = np.zeros(len(members), np.int32)
    for further in range(band, len(keys)):
        key = keys[further][members]
        order = np.lexsort((key, label))
        members, sizes = members[order], _runs(key[order], label[order])
        fits, crowded = (sizes > 1) & (sizes <= LIMIT), sizes > LIMIT
        yield members[np.repeat(fits, sizes)], sizes[fits]
        members, sizes = members[np.repeat(crowded, sizes)], sizes[crowded]
        label = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
        if not len(members):
            return
    yield members, sizes


def _not_alone(key: np.ndarray, texts: np.ndarray) -> np.ndarray:
    """The texts, ascending, whose key may be another's too: those with another's upper bits."""
    # Upper bits and place in one number: sorting numbers is many times faster than sorting places by key.
    low = np.uint64(len(texts).bit_length())
    packed = np.sort((key[texts] >> low << low) | np.arange(len(texts), dtype=np.uint64))
    twin = packed[1:] >> low == packed[:-1] >> low
    paired = np.append(twin, False) | np.append(False, twin) if len(texts) else np.zeros(0, bool)
    return texts[np.sort(packed[paired] & ((np.uint64(1) << low) - np.uint64(1)))]


def _runs(key: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Lengths of runs of equal (label, key)."""
    if not len(key):
        return np.zeros(0, np.int64)
    ends = np.flatnonzero((key[1:] != key[:-1]) | (label[1:] != label[:-1]))
    return np.diff(np.concatenate([[-1], ends, [len(key) - 1]]))
