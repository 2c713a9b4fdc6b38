"""k-center: the greedy choice that always takes the item farthest from all chosen ones (Gonzalez 1985)."""

import numpy as np
from jaxtyping import Float, Float32, Int64

CANDIDATES = 1024
BLOCK = 128


def k_center(
    vectors: Float32[np.ndarray, "n d"], count: int
) -> tuple[Int64[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """Indices in order of choice and their cosine distance (0 to 2) to those before; the first is nearest the mean.

    Exact greedy at a fraction of its cost: distances only shrink, so while the best of the CANDIDATES farthest
    items is farther than every other item was, no other item can be next, and only they are brought up to date.
    """
    n, count = len(vectors), min(count, len(vectors))
    if count == 0:
        return np.zeros(0, np.int64), np.zeros(0)
    chosen = [int(np.argmax(vectors @ vectors.mean(axis=0)))]
    novelty = [2.0]
    nearest = 1 - vectors @ vectors[chosen[0]]
    nearest[chosen[0]] = -np.inf
    while len(chosen) < count:
        fresh = _block(vectors, nearest, min(BLOCK, count - len(chosen)), min(CANDIDATES, n), novelty)
        chosen += fresh
        nearest = np.minimum(nearest, 1 - (vectors @ vectors[fresh].T).max(axis=1))
        nearest[fresh] = -np.inf
    return np.array(chosen, np.int64), np.array(novelty)


def _block(vectors: np.ndarray, nearest: np.ndarray, most: int, candidates: int, novelty: list[float]) -> list[int]:
    """The next choices, as many as can be told from the candidates alone; at least one."""
    pool = np.sort(np.argpartition(-nearest, candidates - 1)[:candidates])
    outside = np.delete(nearest, pool).max(initial=-np.inf)
    near, rows = nearest[pool].copy(), vectors[pool]
    fresh: list[int] = []
    while len(fresh) < most:
        best = int(np.argmax(near))
        if fresh and near[best] <= outside:
            break
        fresh.append(int(pool[best]))
        novelty.append(float(max(near[best], 0.0)))
        near = np.minimum(near, 1 - rows @ rows[best])
        near[best] = -np.inf
    return fresh
