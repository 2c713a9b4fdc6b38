"""k-center: the greedy choice that always takes the item farthest from all chosen ones (Gonzalez 1985).

Vectors are rounded to whole numbers so small that float32 holds every sum of their products exactly. So neither the
number of threads nor the order in which a library adds changes a bit, and of items equally far the first is taken.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int64

CANDIDATES = 1024
BLOCK = 128
ROWS = 1 << 14  # whose products are made together
# Rounding makes a vector of MAX_DIM numbers at most sqrt(MAX_DIM) / 2 = 32 longer, and (SCALE + 32)^2 < EXACT.
SCALE = 4000
MAX_DIM = 4096
EXACT = 2**24  # up to which float32 holds every whole number


class _Grid(NamedTuple):
    """Rows of whole numbers, and 1 / length of each (1 of an empty one)."""

    points: Float32[np.ndarray, "n d"]
    inverse: Float32[np.ndarray, " n"]


def k_center(
    vectors: Float32[np.ndarray, "n d"], count: int
) -> tuple[Int64[np.ndarray, " k"], Float32[np.ndarray, " k"]]:
    """Indices in order of choice and their cosine distance (0 to 2) to those before; the first is nearest the mean.

    Vectors have length 1, or 0, and at most MAX_DIM numbers. Distances are those of the rounded vectors, within 1e-3.

    Exact greedy at a fraction of its cost: distances only shrink, so while the best of the CANDIDATES farthest
    items is farther than every other item was, no other item can be next, and only they are brought up to date. Time:
    n x count x d products; memory: one copy of the vectors and 12 bytes an item.
    """
    n, count = len(vectors), min(count, len(vectors))
    if count == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.float32)
    grid = rounded(vectors)
    chosen = [_nearest_to_mean(grid.points)]
    novelty, nearest = [2.0], np.full(n, np.inf, np.float32)
    _update(grid, nearest, chosen)
    while len(chosen) < count:
        fresh = _block(grid, nearest, min(BLOCK, count - len(chosen)), novelty)
        chosen += fresh
        _update(grid, nearest, fresh)
    return np.array(chosen, np.int64), np.array(novelty, np.float32)


def rounded(vectors: Float32[np.ndarray, "n d"]) -> _Grid:
    """The vectors that k-center sees."""
    points = np.rint(vectors * np.float32(SCALE))
    square = np.einsum("nd,nd->n", points, points)
    assert vectors.shape[1] <= MAX_DIM, f"at most {MAX_DIM} dimensions"
    assert square.max() < EXACT, "vectors of length 1"
    return _Grid(points, (1 / np.sqrt(np.maximum(square, 1).astype(np.float64))).astype(np.float32))


def _nearest_to_mean(points: Float32[np.ndarray, "n d"]) -> int:
    """The row with the greatest product with the sum of all; exact in float64."""
    total = points.sum(axis=0, dtype=np.float64)
    return int(np.argmax(np.concatenate([points[rows].astype(np.float64) @ total for rows in _slices(len(points))])))


def _update(grid: _Grid, nearest: Float32[np.ndarray, " n"], fresh: list[int]) -> None:
    """Distances to the nearest chosen item, with `fresh` chosen; of chosen items -inf."""
    for rows in _slices(len(nearest)):
        part = _Grid(grid.points[rows], grid.inverse[rows])
        nearest[rows] = np.minimum(nearest[rows], _distance(part, grid, fresh))
    nearest[fresh] = -np.inf


def _slices(n: int) -> Iterator[slice]:
    return (slice(first, first + ROWS) for first in range(0, n, ROWS))


def _distance(items: _Grid, grid: _Grid, others: list[int]) -> Float32[np.ndarray, " items"]:
    """Cosine distance of each item to the nearest of the others."""
    # The product is exact. Each factor then rounds once, which keeps the order of numbers: the greatest stays greatest,
    # whether one other is asked for or many.
    products = items.points @ grid.points[others].T
    return 1 - (products * grid.inverse[others]).max(axis=1) * items.inverse


def _block(grid: _Grid, nearest: Float32[np.ndarray, " n"], most: int, novelty: list[float]) -> list[int]:
    """The next choices, as many as can be told from the candidates alone; at least one."""
    candidates = min(CANDIDATES, len(nearest))
    pool = np.argpartition(-nearest, candidates - 1)[:candidates]
    # Of items equally far only some may be candidates: the first of all is one of them in any case.
    pool = np.union1d(pool, [int(np.argmax(nearest))])
    outside = np.delete(nearest, pool).max(initial=-np.inf)
    items, near = _Grid(grid.points[pool], grid.inverse[pool]), nearest[pool]
    fresh: list[int] = []
    while len(fresh) < most:
        best = int(np.argmax(near))
        if fresh and near[best] <= outside:
            break
        fresh.append(int(pool[best]))
        novelty.append(float(max(near[best], 0.0)))
        near = np.minimum(near, _distance(items, grid, fresh[-1:]))
        near[best] = -np.inf
    return fresh
