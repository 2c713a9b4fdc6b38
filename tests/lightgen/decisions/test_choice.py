"""k-center against the plain greedy choice, the Vendi score against its n x n definition."""

import numpy as np
import pytest

from lightgen.decisions.embed import hashed_ngrams
from lightgen.decisions.kcenter import k_center
from lightgen.decisions.vendi import vendi_score


def unit(n: int, d: int, seed: int = 0, clusters: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d))
    if clusters:
        x = 3 * rng.normal(size=(clusters, d))[rng.integers(clusters, size=n)] + x
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def plain_greedy(x: np.ndarray, count: int) -> tuple[list[int], list[float]]:
    """Every distance brought up to date after every choice, in float64."""
    x = x.astype(np.float64)
    chosen = [int(np.argmax(x @ x.mean(axis=0)))]
    nearest, novelty = 1 - x @ x[chosen[0]], [2.0]
    while len(chosen) < count:
        nearest[chosen] = -np.inf
        best = int(np.argmax(nearest))
        chosen.append(best)
        novelty.append(float(nearest[best]))
        nearest = np.minimum(nearest, 1 - x @ x[best])
    return chosen, novelty


@pytest.mark.parametrize(("d", "clusters"), [(8, 0), (64, 0), (16, 40)])
def test_k_center_is_the_exact_greedy_choice(d: int, clusters: int) -> None:
    x = unit(5000, d, clusters=clusters)
    order, novelty = k_center(x, 300)
    expected, distances = plain_greedy(x, 300)
    assert order.tolist() == expected
    np.testing.assert_allclose(novelty, distances, atol=1e-5)
    assert np.all(np.diff(novelty) <= 1e-6)


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
    assert vendi_score(x) == pytest.approx(np.exp(-(kernel * np.log(kernel)).sum()), rel=1e-9)


def test_vendi_score_counts_what_is_distinct() -> None:
    assert vendi_score(np.eye(7)) == pytest.approx(7, rel=1e-12)
    assert vendi_score(np.repeat(np.eye(7)[:3], 5, axis=0)) == pytest.approx(3, rel=1e-12)
    assert vendi_score(np.zeros((0, 4))) == 0


def test_hashed_ngrams_put_like_texts_together() -> None:
    x = hashed_ngrams(["a red bird sings", "a red bird sleeps", "two green boats", ""], 512)
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), [1, 1, 1, 0], rtol=1e-6)
    assert x[0] @ x[1] > 0.3 > 0.1 > abs(x[0] @ x[2])
