"""Near-duplicates against brute force, signatures against datasketch, and banding that must fail."""

import itertools
import random

import numpy as np
import pytest
from datasketch import MinHash, MinHashLSH

from lightgen.bench.near_duplicates import bench_near_duplicates, synthetic
from lightgen.decisions.minhash import NearDuplicateConfig, link, near_duplicates, plan_bands, signatures
from lightgen.decisions.shingles import Shingles, shingle

THRESHOLD = 0.7
Pairs = set[tuple[int, int]]


def true_pairs(grams: Shingles, threshold: float) -> Pairs:
    """All pairs above the threshold, found without signatures: every pair that shares a shingle is counted."""
    owners: dict[int, list[int]] = {}
    shared: dict[tuple[int, int], int] = {}
    for i in range(len(grams.offsets) - 1):
        for value in grams.of(i).tolist():
            for j in owners.setdefault(value, []):
                shared[j, i] = shared.get((j, i), 0) + 1
            owners[value].append(i)
    sizes = np.diff(grams.offsets)
    return {(j, i) for (j, i), n in shared.items() if n >= threshold * (sizes[i] + sizes[j] - n)}


def components(pairs: Pairs, n: int) -> np.ndarray:
    """Smallest index of each connected component, by plain relabelling until nothing changes."""
    label = np.arange(n)
    changed = True
    while changed:
        changed = False
        for a, b in pairs:
            least = min(label[a], label[b])
            changed |= bool(label[a] != least or label[b] != least)
            label[a] = label[b] = least
    return label


def joined(labels: np.ndarray) -> Pairs:
    """All pairs with one label."""
    order = np.argsort(labels, kind="stable").tolist()
    groups = (list(group) for _, group in itertools.groupby(order, key=lambda i: labels[i]))
    return {pair for group in groups for pair in itertools.combinations(sorted(group), 2)}


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """Captions in which similarities from 0.5 to 1 are common: up to four words of an earlier one are changed."""
    rng, plain = random.Random(1), synthetic(2000, seed=3)
    edited = []
    for text in rng.choices(plain, k=2000):
        words = text.split()
        for _ in range(rng.randint(0, 4)):
            words[rng.randrange(len(words))] = f"edit{rng.randrange(3000)}"
        edited.append(" ".join(words))
    return plain + edited


@pytest.fixture(scope="module")
def grams(texts: list[str]) -> Shingles:
    return shingle(texts, 2)


@pytest.fixture(scope="module")
def truth(grams: Shingles) -> Pairs:
    return joined(components(true_pairs(grams, THRESHOLD), len(grams.offsets) - 1))


def test_shingles_are_the_word_ngrams() -> None:
    first, again = shingle(["A red, red BIRD!", "x"], 2), shingle(["a red red bird", "y z"], 2)
    assert first.of(0).tolist() == again.of(0).tolist()
    assert len(first.of(0)) == 3  # a-red, red-red, red-bird
    assert np.diff(shingle(["", "!?", "one", "one two", "a b a b"], 2).offsets).tolist() == [0, 0, 1, 1, 2]
    assert shingle(["red bird"], 2).of(0) != shingle(["bird red"], 2).of(0)


def test_signatures_are_datasketchs_bit_for_bit(grams: Shingles) -> None:
    ours = signatures(grams)
    for i in range(0, 4000, 20):
        theirs = MinHash(num_perm=128, seed=1, hashfunc=int, scheme="affine32")
        theirs.update_batch(grams.of(i).tolist())
        assert np.array_equal(ours[i], theirs.hashvalues)


def test_recall_and_precision_against_brute_force(texts: list[str], truth: Pairs) -> None:
    found = joined(near_duplicates(texts, NearDuplicateConfig(threshold=THRESHOLD, words=2)))
    assert len(truth) > 1000
    assert found <= truth, "a pair that is none: precision must be 1"
    assert len(found & truth) / len(truth) >= 0.995


def test_null_controls_miss_the_bar(grams: Shingles, truth: Pairs) -> None:
    signed = signatures(grams)
    default = MinHashLSH(threshold=THRESHOLD, num_perm=128)
    clusters = link(grams, signed, default.b, default.r, THRESHOLD)
    assert len(joined(clusters) & truth) / len(truth) < 0.95, "datasketch's default banding would do"
    bands, rows = plan_bands(THRESHOLD, 0.998)
    unverified = joined(link(grams, signed, bands, rows, 0.0))
    assert len(unverified & truth) / len(unverified) < 0.99, "candidates need no verification"


@pytest.mark.parametrize("threshold", [0.5, 0.6, 0.7, 0.8, 0.9])
def test_plan_reaches_the_recall_and_is_the_most_selective(threshold: float) -> None:
    def recall(bands: int, rows: int) -> float:
        return 1 - (1 - threshold**rows) ** bands

    bands, rows = plan_bands(threshold, 0.995)
    assert bands * rows <= 128
    assert recall(bands, rows) >= 0.995
    assert recall(128 // (rows + 1), rows + 1) < 0.995


def test_a_thousand_equal_texts_are_one_and_wordless_ones_are_not() -> None:
    clusters = near_duplicates(["the same text"] * 1000 + ["!!!", "???", ""], NearDuplicateConfig())
    assert clusters.tolist() == [0] * 1000 + [1000, 1001, 1002]
    assert len(near_duplicates([], NearDuplicateConfig())) == 0


def test_benchmark_runs(tmp_path) -> None:
    result = bench_near_duplicates(500, tmp_path / "bench.json")
    assert result["ours_per_s"] > result["datasketch_per_s"] > 0
    assert 40 < result["duplicates"] < 120
