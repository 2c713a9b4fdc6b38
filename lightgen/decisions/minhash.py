"""Near-duplicate texts: MinHash signatures, bands by sort, every candidate verified by its exact Jaccard similarity."""

from collections.abc import Sequence
from functools import cache

import numba
import numpy as np
from datasketch import MinHash
from pydantic import BaseModel, ConfigDict, Field

from lightgen.decisions.shingles import Shingles, common_count, shingle

PERMUTATIONS = 128
SEED = 1
RUN_LIMIT = 64


class NearDuplicateConfig(BaseModel):
    """When two captions count as one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    threshold: float = Field(default=0.7, gt=0, le=1, description="Jaccard similarity of the word n-grams")
    words: int = Field(default=2, ge=1, le=8, description="words an n-gram; 3 is too strict for short captions")
    recall: float = Field(
        default=0.998, gt=0, lt=1, description="wanted share of pairs at the threshold that are found"
    )


@cache
def plan_bands(threshold: float, recall: float, permutations: int = PERMUTATIONS) -> tuple[int, int]:
    """(bands, rows): the most selective banding that finds a pair at `threshold` with probability >= `recall`."""
    for rows in range(permutations, 0, -1):
        bands = permutations // rows
        if 1 - (1 - threshold**rows) ** bands >= recall:
            return bands, rows
    return permutations, 1


def near_duplicates(texts: Sequence[str], config: NearDuplicateConfig) -> np.ndarray:
    """Cluster number int64 [n] of every text: the smallest index in its component of pairs above the threshold."""
    shingles = shingle(texts, config.words)
    bands, rows = plan_bands(config.threshold, config.recall)
    return link(shingles, signatures(shingles), bands, rows, config.threshold)


def signatures(shingles: Shingles, permutations: int = PERMUTATIONS) -> np.ndarray:
    """MinHash uint32 [n, permutations], bit for bit datasketch's `affine32` over the same hashes."""
    multiply, add = np.asarray(MinHash(num_perm=permutations, seed=SEED, scheme="affine32").permutations, np.uint32)
    return _signatures(shingles.hashes, shingles.offsets, multiply, add)


def link(shingles: Shingles, signed: np.ndarray, bands: int, rows: int, threshold: float) -> np.ndarray:
    """Components of the verified candidates, as the smallest index of each."""
    parents = np.arange(len(signed), dtype=np.int64)
    for band in range(bands):
        keys = _band_keys(signed, band * rows, rows)
        _link_band(np.argsort(keys, kind="stable"), keys, shingles.hashes, shingles.offsets, threshold, parents)
    return _roots(parents)


@numba.njit(cache=True, parallel=True)
def _signatures(hashes: np.ndarray, offsets: np.ndarray, multiply: np.ndarray, add: np.ndarray) -> np.ndarray:
    out = np.full((len(offsets) - 1, len(multiply)), np.uint32(0xFFFFFFFF), np.uint32)
    for i in numba.prange(len(offsets) - 1):
        row = out[i]
        for at in range(offsets[i], offsets[i + 1]):
            h = hashes[at]
            h ^= h >> np.uint32(16)
            h = np.uint32(h * np.uint32(0x85EBCA6B))
            h ^= h >> np.uint32(13)
            h = np.uint32(h * np.uint32(0xC2B2AE35))
            h ^= h >> np.uint32(16)
            for k in range(len(multiply)):
                row[k] = min(row[k], np.uint32(multiply[k] * h + add[k]))
    return out


@numba.njit(cache=True)
def _band_keys(signed: np.ndarray, first: int, rows: int) -> np.ndarray:
    keys = np.empty(len(signed), np.uint64)
    for i in range(len(signed)):
        value = np.uint64(0xCBF29CE484222325)
        for k in range(first, first + rows):
            value = (value ^ np.uint64(signed[i, k])) * np.uint64(0x100000001B3)
            value ^= value >> np.uint64(31)
        keys[i] = value
    return keys


@numba.njit(cache=True)
def _find(parents: np.ndarray, i: int) -> int:
    while parents[i] != i:
        parents[i] = parents[parents[i]]
        i = parents[i]
    return i


@numba.njit(cache=True)
def _link_band(
    order: np.ndarray, keys: np.ndarray, hashes: np.ndarray, offsets: np.ndarray, threshold: float, parents: np.ndarray
) -> None:
    """Compare the texts of one bucket pairwise; in a huge bucket, each with the RUN_LIMIT texts before it."""
    first = 0
    for at in range(len(order)):
        if keys[order[at]] != keys[order[first]]:
            first = at
        i = order[at]
        for other in range(max(first, at - RUN_LIMIT), at):
            j = order[other]
            a, b = _find(parents, i), _find(parents, j)
            if a == b:
                continue
            left, right = hashes[offsets[i] : offsets[i + 1]], hashes[offsets[j] : offsets[j + 1]]
            common = common_count(left, right)
            union = len(left) + len(right) - common
            # Two texts without a word share nothing that could be compared.
            if union > 0 and common >= threshold * union:
                parents[max(a, b)] = min(a, b)


@numba.njit(cache=True)
def _roots(parents: np.ndarray) -> np.ndarray:
    out = np.empty_like(parents)
    for i in range(len(parents)):
        out[i] = _find(parents, i)
    return out
