"""k-center against the plain greedy choice, the Vendi score against its n x n definition."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lightgen.decisions.embed import hashed_ngrams
from lightgen.decisions.kcenter import MAX_DIM, k_center, rounded
from lightgen.decisions.vendi import vendi_score

ROOT = Path(__file__).parents[3]


def unit(n: int, d: int, seed: int = 0, clusters: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d))
    if clusters:
        x = 3 * rng.normal(size=(clusters, d))[rng.integers(clusters, size=n)] + x
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def plain_greedy(x: np.ndarray, count: int) -> tuple[list[int], list[float]]:
    """Every distance brought up to date after every choice, on the rounded vectors in whole numbers."""
    points = np.rint(x * np.float32(4000)).astype(np.int64)
    inverse = (1 / np.sqrt(np.maximum((points**2).sum(axis=1), 1))).astype(np.float32)

    def distance(to: int) -> np.ndarray:
        return 1 - (points @ points[to]).astype(np.float32) * inverse[to] * inverse

    chosen = [int(np.argmax(points @ points.sum(axis=0)))]
    nearest, novelty = distance(chosen[0]), [2.0]
    while len(chosen) < count:
        nearest[chosen] = -np.inf
        best = int(np.argmax(nearest))
        chosen.append(best)
        novelty.append(max(float(nearest[best]), 0.0))
        nearest = np.minimum(nearest, distance(best))
    return chosen, novelty


@pytest.mark.parametrize(("d", "clusters"), [(8, 0), (64, 0), (16, 40)])
def test_k_center_is_the_exact_greedy_choice(d: int, clusters: int) -> None:
    x = unit(5000, d, clusters=clusters)
    order, novelty = k_center(x, 300)
    expected, distances = plain_greedy(x, 300)
    assert order.tolist() == expected
    assert novelty.tolist() == distances, "to the last bit"
    assert np.all(np.diff(novelty) <= 0)


def test_of_items_equally_far_the_first_is_taken() -> None:
    x = np.tile(np.eye(40, dtype=np.float32), (60, 1))
    order, novelty = k_center(x, 2400)
    expected, distances = plain_greedy(x, 2400)
    assert order.tolist() == expected
    assert novelty.tolist() == distances == [2.0, *[1.0] * 39, *[0.0] * 2360]


def test_distances_are_the_cosine_distances_of_the_vectors() -> None:
    x = unit(3000, 512)
    order, novelty = k_center(x, 200)
    true = 1 - x[order].astype(np.float64) @ x[order].T.astype(np.float64)
    for place in range(1, 200):
        assert novelty[place] == pytest.approx(true[place, :place].min(), abs=1e-3)


@pytest.mark.parametrize("d", [3, 100, MAX_DIM])
def test_products_of_rounded_vectors_are_exact(d: int) -> None:
    x = unit(300, d, seed=d)
    x[0] = x[1] = 1 / np.sqrt(d)  # the longest that rounding can make
    points = rounded(x).points
    exact = points.astype(np.int64) @ points.T.astype(np.int64)
    assert np.array_equal(points @ points.T, exact)
    assert exact.max() < 2**24
    far = x.astype(np.float64)
    assert not np.array_equal(x @ x.T, far @ far.T), "unrounded products would be exact too"
    with pytest.raises(AssertionError, match="length 1"):
        rounded(2 * x)


THREADS = """
import hashlib
import numpy as np
from lightgen.decisions.kcenter import k_center
found = hashlib.sha256()
for n, d in ((777, 513), (5001, 384)):
    x = np.random.default_rng(0).normal(size=(n, d))
    x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    for part in k_center(x, 300):
        found.update(part.tobytes())
print(found.hexdigest())
"""


def test_the_number_of_threads_changes_no_bit() -> None:
    runs = [
        subprocess.run(
            [sys.executable, "-c", THREADS],
            capture_output=True, text=True, check=True, cwd=ROOT,
            env={**os.environ, "OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads},
        ).stdout
        for threads in ("1", "2", "3")
    ]  # fmt: skip
    assert runs[0] == runs[1] == runs[2]


def test_k_center_at_the_edges() -> None:
    assert sorted(k_center(unit(30, 4), 100)[0].tolist()) == list(range(30))
    assert len(k_center(unit(30, 4), 1)[0]) == 1
    assert len(k_center(np.zeros((0, 4), np.float32), 5)[0]) == 0
    assert sorted(k_center(np.repeat(unit(1, 4), 9, axis=0), 9)[0].tolist()) == list(range(9))


@pytest.mark.parametrize("n", [5, 300])
def test_vendi_score_is_its_definition(n: int) -> None:
    x = unit(n, 40).astype(np.float64)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    kernel = np.linalg.eigvalsh(x @ x.T / n)
    kernel = kernel[kernel > 1e-15]
    assert vendi_score(x) == pytest.approx(np.exp(-(kernel * np.log(kernel)).sum()), rel=1e-8)


def test_vendi_score_counts_what_is_distinct() -> None:
    assert vendi_score(np.eye(7)) == pytest.approx(7, rel=1e-12)
    assert vendi_score(np.repeat(np.eye(7)[:3], 5, axis=0)) == pytest.approx(3, rel=1e-12)
    assert vendi_score(np.zeros((0, 4))) == 0


def test_hashed_ngrams_put_like_texts_together() -> None:
    x = hashed_ngrams(["a red bird sings", "a red bird sleeps", "two green boats", ""], 512)
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), [1, 1, 1, 0], rtol=1e-6)
    assert x[0] @ x[1] > 0.3 > 0.1 > abs(x[0] @ x[2])
