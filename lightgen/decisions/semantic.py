"""Captions that mean nearly the same, by the cosine of any embedding: the rule of near-duplicates over other edges.

Two captions share an edge if they share a band of signs on random planes and their cosine is at least the threshold.
Buckets, priorities and who is kept are as for near-duplicates of words.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numba
import numpy as np
from jaxtyping import Float32, Float64, Int16, Int64, UInt64
from pydantic import Field

from lightgen.config import Config
from lightgen.decisions.buckets import share_a_band
from lightgen.decisions.independent_set import first_kept, similar_by
from lightgen.decisions.near_duplicates import NearDuplicates
from lightgen.decisions.recall import Recall
from lightgen.encoders.sentence import SentenceConfig

BITS = 14  # signs of a band
STEPS = 4000  # of a vector's number to 1: whole numbers, so that sums are exact
BLOCK = 1 << 14
SAMPLE = 300


class SemanticConfig(Config):
    """When two captions mean the same."""

    encoder: SentenceConfig = Field(description="model of sentences")
    threshold: float = Field(default=0.95, gt=0, lt=1, description="cosine of the vectors")
    recall: float = Field(default=0.99, gt=0, lt=1, description="wanted share of pairs at the threshold that are found")


class Points(NamedTuple):
    """Vectors of whole numbers, and 1 / length of each."""

    numbers: Int16[np.ndarray, "n d"]
    inverse: Float64[np.ndarray, " n"]


@dataclass(frozen=True)
class SignBands:
    """The sides of BITS random planes on which a vector lies, a key each band."""

    points: Int16[np.ndarray, "n d"]
    count: int

    def keys(self, first: int, last: int) -> UInt64[np.ndarray, "bands n"]:
        """See `Bands.keys`."""
        return np.stack([self._key(self.points, band) for band in range(first, last)])

    def keys_of(self, band: int, texts: Int64[np.ndarray, " k"]) -> UInt64[np.ndarray, " k"]:
        """See `Bands.keys_of`."""
        return self._key(self.points[texts], band)

    def _key(self, points: np.ndarray, band: int) -> UInt64[np.ndarray, " n"]:
        # Planes of whole numbers: with points of whole numbers no sum rounds, so no sign depends on how sums are made.
        rng = np.random.default_rng([band, points.shape[1]])
        planes = rng.integers(-64, 65, size=(points.shape[1], BITS)).astype(np.float64)
        parts = [
            (points[at : at + BLOCK].astype(np.float64) @ planes > 0) @ (1 << np.arange(BITS))
            for at in range(0, len(points), BLOCK)
        ]
        return np.concatenate([np.zeros(0), *parts]).astype(np.uint64)


def plan_signs(threshold: float, recall: float) -> int:
    """Bands after which a pair at `threshold` shared one with probability `recall` (Charikar 2002)."""
    shares = (1 - math.acos(threshold) / math.pi) ** BITS
    return max(1, math.ceil(math.log(1 - recall) / math.log(1 - shares)))


def refuse_like(vectors: Float32[np.ndarray, "n d"], config: SemanticConfig) -> tuple[NearDuplicates, Recall]:
    """Which captions are kept of those whose unit vectors stand here from the highest priority down.

    The recall is that of a sample of SAMPLE captions compared with all. Time: bands x n x d x BITS and at most bands x
    256 comparisons a caption; memory: 2 bytes a number of the vectors, and as near-duplicates for the buckets.
    """
    numbers = np.rint(vectors * np.float32(STEPS)).astype(np.int16)
    square = np.einsum("nd,nd->n", numbers, numbers, dtype=np.int64)
    points = Points(numbers, 1 / np.sqrt(np.maximum(square, 1)))
    bands = SignBands(numbers, plan_signs(config.threshold, config.recall))
    found = first_kept(points, len(numbers), share_a_band(bands), config.threshold)
    return NearDuplicates(*found), _recall(bands, points.inverse, config.threshold)


def _recall(bands: SignBands, inverse: np.ndarray, threshold: float) -> Recall:
    points, n = bands.points, len(bands.points)
    some = points[:SAMPLE].astype(np.float64) * inverse[:SAMPLE, None]
    left, right = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for first in range(0, n, BLOCK):
        part = points[first : first + BLOCK].astype(np.float64) * inverse[first : first + BLOCK, None]
        row, column = np.nonzero(part @ some.T >= threshold)
        before = column < row + first
        right.append(row[before] + first)
        left.append(column[before])
    a, b = np.concatenate(left), np.concatenate(right)
    if not len(a):
        return Recall(0, 0)
    shared = np.zeros(len(a), bool)
    for band in range(bands.count):
        shared |= bands.keys_of(band, a) == bands.keys_of(band, b)
    return Recall(len(a), int(shared.sum()))


@similar_by(Points)
@numba.njit(cache=True)
def _cosine(points: Any, i: int, j: int, least: float) -> float:
    product = 0
    for k in range(points.numbers.shape[1]):
        product += np.int64(points.numbers[i, k]) * np.int64(points.numbers[j, k])
    return product * points.inverse[i] * points.inverse[j]
