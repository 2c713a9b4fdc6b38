"""The estimate of recall against all pairs, and a plan of bands that must be seen to miss."""

import numpy as np

from lightgen.bench.near_duplicates import synthetic
from lightgen.decisions.near_duplicates import NearDuplicateConfig, marks_of
from lightgen.decisions.recall import recall
from tests.lightgen.decisions.near_oracle import Oracle

TEXTS = synthetic(600, seed=2)


def true_pairs(config: NearDuplicateConfig, sample: int) -> set[tuple[int, int]]:
    oracle = Oracle(TEXTS, config)
    return {(i, j) for i in range(sample) for j in range(i + 1, len(TEXTS)) if oracle.alike(i, j)}


def test_it_counts_the_pairs_of_the_sample_and_those_that_share_a_band() -> None:
    for config in (NearDuplicateConfig(threshold=0.6, short_words=0), NearDuplicateConfig(threshold=0.6, recall=0.3)):
        pairs, oracle = true_pairs(config, 150), Oracle(TEXTS, config)
        share = sum(any(a == b for a, b in zip(oracle.keys[i], oracle.keys[j], strict=True)) for i, j in pairs)
        found = recall(marks_of(TEXTS, config), np.arange(len(TEXTS)), config, 150)
        assert found == (len(pairs), share)
        assert len(pairs) > 10


def test_bands_that_miss_are_seen_to_miss() -> None:
    loose = NearDuplicateConfig(threshold=0.6, short_words=0, recall=0.1)
    found = recall(marks_of(TEXTS, loose), np.arange(len(TEXTS)), loose, 600)
    assert found.found < found.pairs


def test_no_pairs_are_no_recall() -> None:
    config = NearDuplicateConfig()
    assert recall(marks_of(["a", "b"], config), np.arange(2), config) == (0, 0)
    assert recall(marks_of([], config), np.arange(0), config) == (0, 0)
