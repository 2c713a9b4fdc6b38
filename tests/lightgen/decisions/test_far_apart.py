"""The choice inside parts, and who is nearest to whom, against their definitions over dense vectors."""

import numpy as np
import pytest

from lightgen.bench.captions import real_shaped
from lightgen.decisions.far_apart import Rarity, far_apart, nearest, terms_of
from lightgen.decisions.shingles import Shingles, ngrams, read_words


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return list(dict.fromkeys(real_shaped(700).to_pylist()))[:600]


def dense(terms: Shingles, rarity: Rarity) -> np.ndarray:
    """The vectors that are never made."""
    known, slot = np.unique(terms.hashes, return_inverse=True)
    out = np.zeros((len(terms.offsets) - 1, len(known)))
    text = np.repeat(np.arange(len(out)), np.diff(terms.offsets))
    out[text, slot] = rarity.weights[terms.hashes >> np.uint32(rarity.shift)]
    norm = np.linalg.norm(out, axis=1, keepdims=True)
    return out / np.where(norm > 0, norm, 1)


def plain_greedy(x: np.ndarray, count: int, kept: list[int]) -> tuple[list[int], list[float]]:
    near, chosen, novelty = np.zeros(len(x)), [], []
    for place in range(count):
        best = kept[place] if place < len(kept) else int(np.argmin(np.round(near, 9)))
        chosen.append(best)
        novelty.append(1 - near[best])
        near = np.maximum(near, x @ x[best])
        near[chosen] = 2
    return chosen, novelty


def test_terms_are_words_and_pairs_once() -> None:
    words = read_words(["red bird red bird", "", "x"])
    both = [set(ngrams(words, n).of(0).tolist()) for n in (1, 2)]
    found = terms_of(words)
    assert found.of(0).tolist() == sorted(both[0] | both[1])
    assert np.diff(found.offsets).tolist() == [len(both[0]) + len(both[1]), 0, 1]


def test_rarity_is_its_formula() -> None:
    terms = terms_of(read_words(["red bird", "red cat", "red", "blue"]))
    rarity = Rarity.of(terms)
    (red,) = terms.of(2)
    assert rarity.weights[red >> np.uint32(rarity.shift)] == round(64 * np.log1p(4 / 3))


@pytest.mark.parametrize("kept", [[], [17, 40, 311]])
def test_it_is_the_exact_greedy_choice(texts: list[str], kept: list[int]) -> None:
    texts = [*texts[:250], "", *texts[250:]]
    terms, held, n = terms_of(read_words(texts)), np.zeros(len(texts), bool), len(texts)
    rarity, held[kept] = Rarity.of(terms), True
    order, novelty = far_apart(terms, rarity, np.array([0, n]), np.array([n // 2]), held)
    expected, distances = plain_greedy(dense(terms, rarity), n // 2, kept)
    assert novelty.tolist() == pytest.approx(distances, abs=1e-6)
    # Of captions equally far but for rounding either may come first, so the sets may differ by a few.
    assert len(set(order.tolist()) ^ set(expected)) <= n // 50
    assert order[: len(kept)].tolist() == kept
    assert novelty[0] == 1


def test_each_part_is_a_choice_of_its_own(texts: list[str]) -> None:
    terms, nothing = terms_of(read_words(texts)), np.zeros(len(texts), bool)
    rarity = Rarity.of(terms)
    starts, counts = np.array([0, 200, 201, 600]), np.array([50, 1, 80])
    order, novelty = far_apart(terms, rarity, starts, counts, nothing)
    ends = np.concatenate([[0], np.cumsum(counts)])
    for part in range(3):
        rows = np.arange(starts[part], starts[part + 1])
        alone = far_apart(terms.take(rows), rarity, np.array([0, len(rows)]), counts[part : part + 1], nothing)
        assert (rows[alone[0]] == order[ends[part] : ends[part + 1]]).all()
        assert (alone[1] == novelty[ends[part] : ends[part + 1]]).all()


def test_the_nearest_is_that_of_the_dense_vectors(texts: list[str]) -> None:
    texts = [*texts, "", "zzgl brvk"]
    terms = terms_of(read_words(texts))
    rarity, centres = Rarity.of(terms), np.array([5, 300, 301, 17, 599])
    x = dense(terms, rarity)
    products = x @ x[centres].T
    found = nearest(terms, rarity, centres)
    near = products.max(axis=1) > 0
    assert (found >= 0).tolist() == near.tolist()
    assert 0 < near.sum() < len(texts)
    rows = np.flatnonzero(near)
    np.testing.assert_allclose(products[rows, found[rows]], products[rows].max(axis=1), rtol=1e-12)
    assert found[centres].tolist() == [0, 1, 2, 3, 4]


def test_of_equally_near_ones_the_first_is_taken() -> None:
    terms = terms_of(read_words(["red bird", "red bird", "red cat", ""]))
    assert nearest(terms, Rarity.of(terms), np.array([1, 0, 3])).tolist() == [0, 0, 0, -1]
    assert nearest(terms, Rarity.of(terms), np.array([], np.int64)).tolist() == [-1, -1, -1, -1]
