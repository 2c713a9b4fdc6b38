"""MinHash: texts whose sets of shingles are alike have an equal key in some band (Broder 1997)."""

from dataclasses import dataclass
from functools import cache

import numba
import numpy as np
from datasketch import MinHash
from jaxtyping import Int64, UInt64

from lightgen.decisions.shingles import Shingles

PERMUTATIONS = 128
SEED = 1


@cache
def plan_bands(threshold: float, recall: float, permutations: int = PERMUTATIONS) -> tuple[int, int]:
    """(bands, rows): the most selective banding that finds a pair at `threshold` with probability >= `recall`."""
    for rows in range(permutations, 0, -1):
        bands = permutations // rows
        if 1 - (1 - threshold**rows) ** bands >= recall:
            return bands, rows
    return permutations, 1


@dataclass(frozen=True)
class Bands:
    """The signatures of texts, a band of `rows` MinHash values a key; computed when asked for, so none is stored."""

    grams: Shingles
    count: int
    rows: int

    def keys(self, first: int, last: int) -> UInt64[np.ndarray, "bands n"]:
        """A hash of the values of each band from `first` to before `last`, for each text."""
        return self._keys(self.grams, first, last)

    def keys_of(self, band: int, texts: Int64[np.ndarray, " k"]) -> UInt64[np.ndarray, " k"]:
        """The keys of some texts in one band."""
        return self._keys(self.grams.take(texts), band, band + 1)[0]

    def _keys(self, grams: Shingles, first: int, last: int) -> np.ndarray:
        # The values are datasketch's `affine32`, bit for bit.
        given = MinHash(num_perm=PERMUTATIONS, seed=SEED, scheme="affine32").permutations
        multiply, add = np.asarray(given, np.uint32)[:, first * self.rows : last * self.rows]
        return _band_keys(grams.hashes, grams.offsets, multiply, add, last - first)


@numba.njit(cache=True, parallel=True)
def _band_keys(
    hashes: np.ndarray, offsets: np.ndarray, multiply: np.ndarray, add: np.ndarray, bands: int
) -> np.ndarray:
    n, rows = len(offsets) - 1, len(multiply) // bands
    out = np.empty((bands, n), np.uint64)
    for i in numba.prange(n):
        least = np.full(len(multiply), np.uint32(0xFFFFFFFF), np.uint32)
        for at in range(offsets[i], offsets[i + 1]):
            h = hashes[at]
            h ^= h >> np.uint32(16)
            h = np.uint32(h * np.uint32(0x85EBCA6B))
            h ^= h >> np.uint32(13)
            h = np.uint32(h * np.uint32(0xC2B2AE35))
            h ^= h >> np.uint32(16)
            for k in range(len(multiply)):
                least[k] = min(least[k], np.uint32(multiply[k] * h + add[k]))
        for band in range(bands):
            value = np.uint64(0xCBF29CE484222325)
            for k in range(band * rows, (band + 1) * rows):
                value = (value ^ np.uint64(least[k])) * np.uint64(0x100000001B3)
                value ^= value >> np.uint64(31)
            out[band, i] = value
    return out
