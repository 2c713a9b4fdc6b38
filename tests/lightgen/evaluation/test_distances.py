"""Distances of sets of vectors: against the published formulas written out, and what they say where nothing differs."""

from collections.abc import Iterator

import numpy as np
import pytest
from scipy.linalg import sqrtm

from lightgen.evaluation.distances import Blocks, Moments, frechet, mmd, moments_of, unit


def blocks(vectors: np.ndarray, size: int = 37) -> Blocks:
    def each() -> Iterator[np.ndarray]:
        for start in range(0, len(vectors), size):
            yield vectors[start : start + size]

    return each


def drawn(seed: int, n: int, d: int = 12, shift: float = 0.0) -> np.ndarray:
    """Correlated vectors, of which the last two numbers repeat the first two; `shift` moves the first three."""
    random = np.random.default_rng(seed)
    mix = np.random.default_rng(99).normal(size=(d, d))
    mix[:, -2:] = mix[:, :2]
    return (random.normal(size=(n, d)) @ mix + shift * (np.arange(d) < 3) + 5).astype(np.float32)


def fid_formula(x: np.ndarray, y: np.ndarray) -> float:
    """As pytorch-fid and others have it: a Schur root of the product, its real part."""
    a, b = np.cov(x.astype(float), rowvar=False), np.cov(y.astype(float), rowvar=False)
    far = x.astype(float).mean(0) - y.astype(float).mean(0)
    return float(far @ far + np.trace(a) + np.trace(b) - 2 * np.trace(np.real(sqrtm(a @ b))))


def cmmd_formula(x: np.ndarray, y: np.ndarray) -> float:
    """Every pair by itself."""

    def mean(one: np.ndarray, other: np.ndarray) -> float:
        return float(np.mean([[np.exp(-((p - q) ** 2).sum() / (2 * 10.0**2)) for q in other] for p in one]))

    u, v = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in (x.astype(float), y.astype(float)))
    return 1000 * (mean(u, u) + mean(v, v) - 2 * mean(u, v))


def test_moments_taken_block_by_block_are_those_of_all_at_once() -> None:
    x = drawn(0, 200)
    for size in (1, 37, 200):
        found = moments_of(blocks(x, size))
        assert found.count == 200
        np.testing.assert_allclose(found.mean, x.astype(float).mean(0), rtol=1e-12)
        np.testing.assert_allclose(found.covariance, np.cov(x.astype(float), rowvar=False), rtol=1e-9, atol=1e-9)
    empty = Moments()
    empty.add(x[:0])
    assert empty.count == 0


@pytest.mark.parametrize(("n", "m"), [(300, 500), (8, 9)], ids=["many", "fewer than features"])
def test_the_frechet_distance_is_the_published_formula(n: int, m: int) -> None:
    x, y = drawn(1, n), drawn(2, m, shift=0.4)
    found = frechet(moments_of(blocks(x)), moments_of(blocks(y)))
    assert found == pytest.approx(fid_formula(x, y), rel=1e-4, abs=1e-3)


def test_normal_distributions_have_their_known_distance() -> None:
    """Axis by axis (m1 - m2)^2 + (s1 - s2)^2; the moments are set, so nothing is estimated."""
    ours = Moments(2, np.array([0.0, 1.0]), np.diag([4.0, 9.0]))
    theirs = Moments(2, np.array([3.0, 1.0]), np.diag([1.0, 25.0]))
    assert frechet(ours, theirs) == pytest.approx(9 + 1 + 4)


def test_the_mmd_is_cmmds() -> None:
    x, y = drawn(3, 40), drawn(4, 50, shift=2.0)
    assert mmd(blocks(x, 7), blocks(y, 11)) == pytest.approx(cmmd_formula(x, y), rel=1e-9)


def test_equal_sets_are_not_apart_and_sets_of_one_kind_come_near_as_they_grow() -> None:
    """The null control: both figures shrink with n where nothing differs, and stay where something does."""
    x = drawn(5, 400)
    assert frechet(moments_of(blocks(x)), moments_of(blocks(x))) == pytest.approx(0, abs=1e-6)
    assert mmd(blocks(x), blocks(x)) == pytest.approx(0, abs=1e-9)
    same = {n: (drawn(6, n), drawn(7, n)) for n in (50, 1600)}
    other = {n: (drawn(6, n), drawn(7, n, shift=9.0)) for n in (50, 1600)}

    def figures(pair: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        x, y = map(blocks, pair)
        return np.array([frechet(moments_of(x), moments_of(y)), mmd(x, y)])

    assert (figures(same[1600]) < figures(same[50]) / 8).all()
    assert (figures(other[1600]) > figures(other[50]) / 2).all()
    assert (figures(other[1600]) > 20 * figures(same[1600])).all()


def test_a_vector_of_nothing_stays_nothing() -> None:
    assert unit(np.zeros((1, 3), np.float32)).tolist() == [[0, 0, 0]]
