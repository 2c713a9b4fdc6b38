"""The estimate of recall against all pairs, and a plan of bands that must be seen to miss."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightgen.bench.near_duplicates import synthetic
from lightgen.decisions.near_duplicates import NearDuplicateConfig, marks_of
from lightgen.decisions.recall import least_shared, recall
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


@settings(max_examples=60)
@given(
    st.lists(st.lists(st.sampled_from("abcd"), max_size=6).map(" ".join), max_size=12),
    st.one_of(st.sampled_from([1 / 3, 0.5, 0.6, 2 / 3, 0.7, 1.0]), st.floats(0.01, 1)),
    st.integers(1, 14),
)
def test_no_pair_is_lost_to_the_look_for_rare_n_grams(texts: list[str], threshold: float, sample: int) -> None:
    config = NearDuplicateConfig(threshold=threshold, short_words=0)
    oracle = Oracle(texts, config)
    pairs = {(i, j) for i in range(min(sample, len(texts))) for j in range(i + 1, len(texts)) if oracle.alike(i, j)}
    assert recall(marks_of(texts, config), np.arange(len(texts)), config, sample).pairs == len(pairs)


@given(st.integers(1, 10**6), st.floats(1e-3, 1, exclude_min=True))
def test_the_least_that_two_sets_share(size: int, threshold: float) -> None:
    (least,) = least_shared(np.array([size]), threshold).tolist()
    assert least / size >= threshold
    assert least == 1 or (least - 1) / size < threshold


def test_bands_that_miss_are_seen_to_miss() -> None:
    loose = NearDuplicateConfig(threshold=0.6, short_words=0, recall=0.1)
    found = recall(marks_of(TEXTS, loose), np.arange(len(TEXTS)), loose, 600)
    assert found.found < found.pairs


def test_no_pairs_are_no_recall() -> None:
    config = NearDuplicateConfig()
    assert recall(marks_of(["a", "b"], config), np.arange(2), config) == (0, 0)
    assert recall(marks_of([], config), np.arange(0), config) == (0, 0)


def test_captions_of_one_template_take_no_memory_for_each_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightgen.decisions.recall.MOST_PAIRS", 5000)
    texts = [f"a photo of one very long sentence about a {i}x that stands on a wall near the sea" for i in range(3000)]
    config = NearDuplicateConfig(short_words=0)
    order = np.random.default_rng(0).permutation(len(texts))
    found = recall(marks_of(texts, config), order, config)
    assert len(texts) / 2 < found.pairs <= 5000
    shuffled = [texts[place] for place in order]
    assert recall(marks_of(shuffled, config), np.arange(len(texts)), config) == found


def test_a_pair_of_which_both_stay_is_not_found() -> None:
    config = NearDuplicateConfig(short_words=0)
    marks = marks_of(["a red bird on a wall near the sea at dawn"] * 2 + ["two blue cups"], config)
    order = np.arange(3)
    assert recall(marks, order, config, stays=np.array([True, False, True])) == (1, 1)
    assert recall(marks, order, config, stays=np.array([True, True, True])) == (1, 0)
