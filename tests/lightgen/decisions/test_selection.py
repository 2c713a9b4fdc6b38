"""Which captions become prompts: the same ones in every order and on every number of threads."""

import random

import numpy as np
import pyarrow as pa
import pytest

from lightgen.decisions import selection
from lightgen.decisions.embed import hashed_ngrams
from lightgen.decisions.equal_words import first_of_equal, word_digests
from lightgen.decisions.kcenter import k_center
from lightgen.decisions.near_duplicates import NearDuplicateConfig
from lightgen.decisions.selection import CHOSEN, CONTAMINATED, EXACT, REASONS, choose_captions
from lightgen.seeds import content_id
from lightgen.texts import normalised

WORDS = ["red", "Blue", "cat", "dog", "big", "old", "car."]


def some_texts(n: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(1, 6))) for _ in range(n)]


def table(records: list[int], texts: list[str]) -> pa.Table:
    ids = [f"{record:032x}" for record in records]
    return pa.table({"id": ids, "caption_id": [content_id("caption", text) for text in texts], "caption": texts})


def test_the_first_of_equal_captions_is_that_of_a_plain_loop() -> None:
    texts = some_texts(2000)
    order = np.random.default_rng(0).permutation(len(texts))
    seen: dict[str, int] = {}
    for row in order:
        seen.setdefault(normalised(texts[row]), int(row))
    expected = [seen[normalised(text)] for text in texts]
    assert first_of_equal(word_digests(texts), order).tolist() == expected
    assert len(set(expected)) < 2000
    assert first_of_equal(word_digests([]), np.zeros(0, np.int64)).tolist() == []


def test_case_and_punctuation_make_no_other_caption_and_order_does() -> None:
    digests = word_digests(["A red cat.", "a  red cat", "red a cat", "🐶", "🐱"])
    assert (digests[0] == digests[1]).all()
    assert len({tuple(row) for row in digests.tolist()}) == 4


def test_the_choice_does_not_depend_on_the_order() -> None:
    texts = some_texts(400)
    rows = list(enumerate(texts))
    near = NearDuplicateConfig(threshold=0.6, short_words=0)
    found = []
    for seed in range(3):
        random.Random(seed).shuffle(rows)
        records, shown = map(list, zip(*rows, strict=True))
        why = {row: "planted" for row, record in enumerate(records) if record % 97 == 0}
        chosen = choose_captions(table(records, shown), word_digests(shown), why, near, 60, 128)
        verdicts = zip(chosen.reason.tolist(), chosen.rank.tolist(), chosen.novelty.tolist(), strict=True)
        twins = [records[twin] if twin >= 0 else -1 for twin in chosen.twin]
        found.append({record: [*verdict, twin] for record, verdict, twin in zip(records, verdicts, twins, strict=True)})
        assert sum(chosen.reason == CHOSEN) == 60
        assert sorted(chosen.rank[chosen.reason == CHOSEN].tolist()) == list(range(60))
        assert {REASONS[code] for code in chosen.reason} == set(REASONS)
    assert found[0] == found[1] == found[2]


def test_a_repeat_is_a_repeat_before_it_is_contaminated() -> None:
    texts = ["a red cat", "A red cat!", "a blue dog"]
    chosen = choose_captions(
        table([5, 2, 9], texts), word_digests(texts), {0: "equals x", 1: "equals x"}, None, None, 64
    )
    assert chosen.reason.tolist() == [EXACT, CONTAMINATED, CHOSEN]
    assert chosen.detail(0) == f"same words as {2:032x}: A red cat!"
    assert chosen.detail(1) == "equals x"


def test_distances_do_not_hang_on_the_order_of_sums() -> None:
    """As threads change it; the null control is the same without the grid."""
    texts = list(dict.fromkeys(f"{text} {number % 700}" for number, text in enumerate(some_texts(3000))))
    rows = table(list(range(len(texts))), texts)
    on_grid = selection._vectors(rows, np.arange(len(texts)), 256)
    plain = hashed_ngrams(texts, 256)
    columns = np.random.default_rng(0).permutation(256)

    def same(vectors: np.ndarray) -> bool:
        return np.array_equal(vectors @ vectors[:50].T, vectors[:, columns] @ vectors[:50][:, columns].T)

    assert same(on_grid)
    assert not same(plain)
    assert np.abs(on_grid - plain).max() <= 0.5 / selection.GRID
    mine, other = k_center(on_grid, 300), k_center(np.ascontiguousarray(on_grid[:, columns]), 300)
    assert np.array_equal(mine[0], other[0])
    assert np.array_equal(mine[1], other[1])


def test_the_grid_keeps_distances() -> None:
    texts = list(dict.fromkeys(some_texts(500)))
    rows = table(list(range(len(texts))), texts)
    on_grid, plain = selection._vectors(rows, np.arange(len(texts)), 512), hashed_ngrams(texts, 512)
    assert np.abs(on_grid @ on_grid.T - plain @ plain.T).max() < 2e-3


def test_diversity_is_measured_on_a_sample_of_many(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = list(dict.fromkeys(f"{text} {number}" for number, text in enumerate(some_texts(600))))
    rows, digests = table(list(range(len(texts))), texts), word_digests(texts)
    whole = choose_captions(rows, digests, {}, None, 300, 64).summary
    monkeypatch.setattr(selection, "VENDI_ROWS", 200)
    sampled = choose_captions(rows, digests, {}, None, 300, 64).summary
    for name in ("captions", "distinct", "chosen", "random"):
        assert sampled[f"vendi_{name}"] == pytest.approx(whole[f"vendi_{name}"], rel=0.2)
        assert sampled[f"vendi_{name}"] != whole[f"vendi_{name}"]
