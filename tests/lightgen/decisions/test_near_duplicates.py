"""Near-duplicates against their definition and brute force, in any order of captions; and controls that must fail."""

import csv
import itertools
import json
import random
from pathlib import Path

import numpy as np
import pytest
from datasketch import MinHash, MinHashLSH
from hypothesis import given, settings
from hypothesis import strategies as st

from lightgen.bench.near_duplicates import bench_near_duplicates, synthetic
from lightgen.decisions.buckets import LIMIT, share_a_band
from lightgen.decisions.independent_set import Texts, first_kept
from lightgen.decisions.minhash import Bands, plan_bands
from lightgen.decisions.near_duplicates import FILLERS, NearDuplicateConfig, near_duplicates
from lightgen.decisions.shingles import Shingles, content, read_words, shingle
from lightgen.seeds import content_id
from tests.lightgen.decisions.near_oracle import Oracle, words_of

DATA = Path(__file__).parents[3] / "../shared/data"
THRESHOLD = 0.7
LONG = NearDuplicateConfig(threshold=THRESHOLD, short_words=0)
Pairs = set[tuple[int, int]]


def names(texts: list[str]) -> list[str]:
    return [content_id(number, text) for number, text in enumerate(texts)]


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
    return {(j, i) for (j, i), n in shared.items() if n / (sizes[i] + sizes[j] - n) >= threshold}


def first_independent_set(pairs: Pairs, order: list[int]) -> set[int]:
    """Who is kept by the definition, with all pairs known."""
    near: dict[int, set[int]] = {i: set() for i in order}
    for a, b in pairs:
        near[a].add(b)
        near[b].add(a)
    kept: set[int] = set()
    for i in order:
        if not near[i] & kept:
            kept.add(i)
    return kept


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
    return true_pairs(grams, THRESHOLD)


def test_shingles_are_the_word_ngrams() -> None:
    first, again = shingle(["A red, red BIRD!", "x"], 2), shingle(["a red red bird", "y z"], 2)
    assert first.of(0).tolist() == again.of(0).tolist()
    assert len(first.of(0)) == 3  # a-red, red-red, red-bird
    assert np.diff(shingle(["", "!?", "one", "one two", "a b a b"], 2).offsets).tolist() == [0, 0, 1, 1, 2]
    assert shingle(["red bird"], 2).of(0) != shingle(["bird red"], 2).of(0)


def test_ngrams_of_words_that_end_alike_have_hashes_of_their_own() -> None:
    pairs = [f"w{a} x{b}" for a in range(150) for b in range(200)]
    assert len(set(shingle(pairs, 2).hashes.tolist())) > len(pairs) - 3
    assert len(set(content(read_words(pairs), FILLERS)[0].tolist())) == len(pairs)


def test_content_is_the_words_in_order_without_the_fillers() -> None:
    texts = [
        "A man IS riding the wave.",
        "man riding wave",
        "riding man wave",
        "manriding wave",
        "the, is",
        "",
        "une fée",
    ]
    hashes, words = content(read_words(texts), FILLERS)
    assert words.tolist() == [6, 3, 3, 2, 2, 0, 2]
    groups = [[k for k, other in enumerate(hashes) if other == value] for value in hashes]
    assert groups == [[0, 1], [0, 1], [2], [3], [4, 5], [4, 5], [6]]


def test_keys_of_bands_are_datasketchs_signatures(grams: Shingles) -> None:
    bands, rows = plan_bands(THRESHOLD, 0.998)
    ours = Bands(grams, bands, rows).keys(0, bands)
    for i in range(0, 4000, 40):
        theirs = MinHash(num_perm=128, seed=1, hashfunc=int, scheme="affine32")
        theirs.update_batch(grams.of(i).tolist())
        for band in range(bands):
            value = 0xCBF29CE484222325
            for one in theirs.hashvalues[band * rows : (band + 1) * rows].tolist():
                value = (value ^ one) * 0x100000001B3 % 2**64
                value ^= value >> 31
            assert ours[band, i] == value


@pytest.mark.parametrize("threshold", [0.5, 0.6, 0.7, 0.8, 0.9])
def test_plan_reaches_the_recall_and_is_the_most_selective(threshold: float) -> None:
    def recall(bands: int, rows: int) -> float:
        return 1 - (1 - threshold**rows) ** bands

    bands, rows = plan_bands(threshold, 0.995)
    assert bands * rows <= 128
    assert recall(bands, rows) >= 0.995
    assert recall(128 // (rows + 1), rows + 1) < 0.995


def test_who_goes_is_near_a_kept_one_and_nearly_no_kept_ones_are_near(texts: list[str], truth: Pairs) -> None:
    found = near_duplicates(names(texts), texts, LONG)
    kept = set(np.flatnonzero(found.refused < 0).tolist())
    for i, keeper in enumerate(found.refused.tolist()):
        assert keeper in kept or keeper < 0
        assert keeper < 0 or (min(i, keeper), max(i, keeper)) in truth, "a pair that is none: precision must be 1"
    missed = sum(a in kept and b in kept for a, b in truth)
    assert len(truth) > 1000
    assert missed / len(truth) < 0.005
    ideal = first_independent_set(truth, sorted(range(len(texts)), key=names(texts).__getitem__))
    assert len(ideal ^ kept) / len(texts) < 0.005
    assert found.skipped == 0 < found.compared


def test_null_controls_miss_the_bar(grams: Shingles, truth: Pairs) -> None:
    n = len(grams.offsets) - 1
    nodes = Texts(grams.hashes, grams.offsets, np.zeros(n, np.uint64), np.zeros(n, bool))

    def kept(bands: int, rows: int, threshold: float) -> set[int]:
        buckets = share_a_band(Bands(grams, bands, rows))
        return set(np.flatnonzero(first_kept(nodes, len(nodes.words), buckets, threshold)[0] < 0).tolist())

    default = MinHashLSH(threshold=THRESHOLD, num_perm=128)
    left = kept(default.b, default.r, THRESHOLD)
    assert sum(a in left and b in left for a, b in truth) / len(truth) > 0.02, "datasketch's default banding would do"
    unverified = kept(*plan_bands(THRESHOLD, 0.998), 0.0)
    near = {i for pair in truth for i in pair}
    assert len(set(range(n)) - near - unverified) > 100, "candidates need no verification"


def test_a_chain_of_captions_each_like_the_next_does_not_collapse() -> None:
    words = [f"w{number}" for number in range(60)]
    chain = [" ".join(words[at : at + 20]) for at in range(0, 41, 2)]
    found = near_duplicates([f"{at:03d}" for at in range(len(chain))], chain, LONG)
    kept = np.flatnonzero(found.refused < 0).tolist()
    assert 5 < len(kept) < len(chain)
    gaps = [abs(at - keeper) for at, keeper in enumerate(found.refused.tolist()) if keeper >= 0]
    assert max(gaps) == 1, "a caption goes only for one that is near"


WORDS = st.sampled_from(["a", "the", "is", "dog", "cat", "red", "blue", "on", "mat", "Ünder"])
CAPTIONS = st.lists(st.lists(WORDS, max_size=16).map(" ".join), max_size=40)
CONFIGS = st.builds(
    NearDuplicateConfig,
    threshold=st.sampled_from([0.4, 0.7, 1.0]),
    words=st.sampled_from([1, 2, 3]),
    short_words=st.sampled_from([0, 5, 12]),
)


@settings(max_examples=80)
@given(texts=CAPTIONS, config=CONFIGS, rng=st.randoms(use_true_random=False))
def test_what_is_kept_is_the_definition_in_any_order(texts: list[str], config: NearDuplicateConfig, rng) -> None:
    ids = names(texts)
    keep = [rng.random() < 0.3 for _ in texts] if rng.random() < 0.5 else None
    expected = Oracle(texts, config).run(ids, keep)
    order = rng.sample(range(len(texts)), len(texts))
    for given_order in (list(range(len(texts))), order):
        found = near_duplicates(
            [ids[i] for i in given_order],
            [texts[i] for i in given_order],
            config,
            None if keep is None else np.array([keep[i] for i in given_order], bool),
        )
        back = {
            i: given_order[at] if at >= 0 else -1 for i, at in zip(given_order, found.refused.tolist(), strict=True)
        }
        assert [back[i] for i in range(len(texts))] == expected


def test_captions_of_a_kept_version_come_first() -> None:
    texts = [f"the same long caption of a dog on a mat in the sun number {at}" for at in range(3)]
    config = NearDuplicateConfig(threshold=0.5, short_words=0)
    assert near_duplicates(["a", "b", "c"], texts, config).refused.tolist() == [-1, 0, 0]
    assert near_duplicates(["a", "b", "c"], texts, config, np.array([False, False, True])).refused.tolist() == [
        2,
        2,
        -1,
    ]


def test_a_thousand_equal_texts_are_one_and_wordless_ones_are_not() -> None:
    texts = ["the same text"] * 1000 + ["!!!", "???", ""]
    found = near_duplicates([f"{at:05d}" for at in range(1003)], texts, NearDuplicateConfig())
    assert found.refused.tolist() == [-1, *[0] * 999, -1, -1, -1]
    assert near_duplicates([], [], NearDuplicateConfig()).refused.shape == (0,)


def crowd(n: int, seed: int) -> list[str]:
    """Captions that nearly all share a band, though most are not alike; some are one word from another."""
    rng, common = random.Random(seed), " ".join(f"w{at}" for at in range(60))
    return [f"{common} x{rng.randrange(n)} y{rng.randrange(2)} z{rng.randrange(3)}" for _ in range(n)]


def test_crowded_buckets_give_the_same_captions_in_any_order_and_what_they_skip_is_counted() -> None:
    texts = sorted(set(crowd(1500, 1)))
    ids, config = names(texts), NearDuplicateConfig(threshold=0.95, recall=0.9999)
    oracle = Oracle(texts, config)
    assert max(map(len, oracle.buckets(sorted(range(len(texts)), key=ids.__getitem__)))) > LIMIT
    expected = oracle.run(ids)
    assert 100 < sum(keeper >= 0 for keeper in expected) < len(texts) - LIMIT
    for seed in range(3):
        order = random.Random(seed).sample(range(len(texts)), len(texts))
        found = near_duplicates([ids[i] for i in order], [texts[i] for i in order], config)
        keepers = {i: order[at] if at >= 0 else -1 for i, at in zip(order, found.refused.tolist(), strict=True)}
        assert [keepers[i] for i in range(len(texts))] == expected
        assert found.skipped > 0


def test_captions_of_one_template_go_however_many_there_are() -> None:
    said = "a photo of the very same long sentence about one single {}x standing on a wall near the sea"
    texts = [said.format(number) for number in range(1500)]
    found = near_duplicates([f"{place:05d}" for place in range(len(texts))], texts, NearDuplicateConfig())
    assert (found.refused[1:] == 0).all()


def test_short_captions_must_be_equal_but_for_articles() -> None:
    texts = ["a photo of a green cup and a yellow pizza", "a photo of a green cup and a yellow bird"]
    texts += [
        "the photo of a green cup and a yellow bird",
        "a photo of a cat left of a dog",
        "a photo of a dog left of a cat",
    ]
    ids = list("abcde")
    assert near_duplicates(ids, texts, NearDuplicateConfig()).refused.tolist() == [-1, -1, 1, -1, -1]
    assert near_duplicates(ids, texts, LONG).refused.tolist() == [-1, 0, -1, -1, 3]


def test_all_of_genevals_prompts_are_kept() -> None:
    path = DATA / "geneval_evaluation_metadata.jsonl"
    if not path.exists():
        pytest.skip(f"{path.name} is not on this machine")
    prompts = sorted({json.loads(line)["prompt"] for line in path.read_text().splitlines()})
    found = near_duplicates(names(prompts), prompts, NearDuplicateConfig())
    assert found.refused.tolist() == [-1] * len(prompts)
    assert (near_duplicates(names(prompts), prompts, LONG).refused >= 0).sum() > 20, (
        "the rule for short captions is idle"
    )


@pytest.mark.parametrize("config", [LONG, NearDuplicateConfig(threshold=0.5, short_words=6)])
def test_real_captions_are_kept_by_the_definition(config: NearDuplicateConfig) -> None:
    path = DATA / "coco_val2017_captions.tsv"
    if not path.exists():
        pytest.skip(f"{path.name} is not on this machine")
    with path.open(newline="") as lines:
        rows = csv.reader(itertools.islice(lines, 5000), delimiter="\t", quoting=csv.QUOTE_NONE)
        texts = [row[2] for row in rows]
    ids = names(texts)
    found = near_duplicates(ids, texts, config)
    assert found.refused.tolist() == Oracle(texts, config).run(ids)
    assert (found.refused >= 0).sum() > 3
    assert max(len(words_of(text)) for text in texts) > 12


def test_benchmark_runs() -> None:
    found = bench_near_duplicates(500, rounds=1)
    assert [rate.name for rate in found.rates] == ["lightgen", "datasketch"]
    assert found.rates[1].ratios[1] > 1
    assert 40 < found.refused < 120
    assert found.recall[0] >= found.recall[1] > 0
