"""Which captions become prompts: the same ones in every order, and everybody who goes has a reason that is true."""

import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from lightgen.decisions import diversity
from lightgen.decisions.choice import Balance, BalancedParts, ChoiceConfig, KCenter, Parts
from lightgen.decisions.contamination import ContaminationConfig
from lightgen.decisions.equal_words import first_of_equal, word_digests
from lightgen.decisions.near_duplicates import NearDuplicateConfig
from lightgen.decisions.plain_column import plain_column
from lightgen.decisions.selection import CHOSEN, CONTAMINATED, EXACT, REASONS, Selection, select_captions
from lightgen.decisions.sketch import Sketch, ids_of, keys_of, piled, sketcher
from lightgen.seeds import content_id
from lightgen.texts import normalised

WORDS = ["red", "Blue", "cat", "dog", "big", "old", "car."]
NEAR = NearDuplicateConfig(threshold=0.6, short_words=0)
RULES = [KCenter(), Parts(part_rows=50), Balance(), BalancedParts(part_rows=50)]


def some_texts(n: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(1, 6))) for _ in range(n)]


def table(records: list[int], texts: list[str]) -> pa.Table:
    ids = [f"{record:032x}" for record in records]
    return pa.table({"id": ids, "caption_id": [content_id("caption", text) for text in texts], "caption": texts})


def sketched(
    rows: pa.Table,
    folder: Path,
    shard_rows: int = 1000,
    prompts: tuple[str, ...] = (),
    near: NearDuplicateConfig | None = NEAR,
) -> Sketch:
    sketch = sketcher(near, list(prompts), ContaminationConfig(words=2))
    shards = [rows.slice(first, shard_rows) for first in range(0, rows.num_rows, shard_rows)]
    return piled(map(sketch, shards), folder)


def chosen_of(
    given: Sketch, rule: ChoiceConfig, count: int | None, near: NearDuplicateConfig | None = NEAR
) -> Selection:
    return select_captions(given, np.zeros(len(given.ids), bool), len(given.ids), near, rule, count, 64)


def digests(texts: list[str]) -> np.ndarray:
    column = pa.array(texts, pa.large_string())
    return word_digests(plain_column(column), column)


def test_the_first_of_equal_captions_is_that_of_a_plain_loop() -> None:
    texts = some_texts(2000)
    order = np.random.default_rng(0).permutation(len(texts))
    seen: dict[str, int] = {}
    for row in order:
        seen.setdefault(normalised(texts[row]), int(row))
    expected = [seen[normalised(text)] for text in texts]
    assert first_of_equal(digests(texts), order).tolist() == expected
    assert len(set(expected)) < 2000
    assert first_of_equal(digests([]), np.zeros(0, np.int64)).tolist() == []


def test_digests_that_are_half_equal_are_not_equal() -> None:
    words = np.array([[7, 1], [7, 2], [7, 1], [8, 1], [7, 2]], np.uint64)
    assert first_of_equal(words, np.array([4, 3, 2, 1, 0])).tolist() == [2, 4, 2, 3, 4]


def test_case_and_punctuation_make_no_other_caption_and_order_does() -> None:
    found = digests(["A red cat.", "a  red cat", "red a cat", "🐶", "🐱"])
    assert (found[0] == found[1]).all()
    assert len({tuple(row) for row in found.tolist()}) == 4


def test_ids_are_numbers_that_sort_as_they_do() -> None:
    ids = [content_id(number) for number in range(500)]
    keys = keys_of(pa.chunked_array([ids[:3], [], ids[3:]], pa.string()).slice(1))
    assert ids_of(keys).to_pylist() == ids[1:]
    assert [ids[1:][at] for at in np.lexsort((keys[:, 1], keys[:, 0]))] == sorted(ids[1:])
    with pytest.raises(AssertionError, match="32 hexadecimal"):
        keys_of(pa.chunked_array([["abcd"]]))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.kind)
def test_the_choice_depends_on_neither_order_nor_shards(rule: ChoiceConfig, tmp_path: Path) -> None:
    texts = some_texts(400)
    rows = list(enumerate(texts))
    found = []
    for seed, shard_rows in enumerate((1000, 7, 130)):
        random.Random(seed).shuffle(rows)
        records, shown = map(list, zip(*rows, strict=True))
        given = sketched(table(records, shown), tmp_path, shard_rows, ("big old cat", "dog car"))
        chosen = chosen_of(given, rule, 60)
        novelty = np.nan_to_num(chosen.novelty, nan=-1).tolist()
        verdicts = zip(chosen.reason.tolist(), chosen.rank.tolist(), novelty, strict=True)
        twins = [records[twin] if twin >= 0 else -1 for twin in chosen.twin]
        found.append({record: [*verdict, twin] for record, verdict, twin in zip(records, verdicts, twins, strict=True)})
        assert sum(chosen.reason == CHOSEN) == 60
        assert sorted(chosen.rank[chosen.reason == CHOSEN].tolist()) == list(range(60))
        assert {REASONS[code] for code in chosen.reason} == {*REASONS} - {"duplicate_semantic"}  # no model here
    assert found[0] == found[1] == found[2]


def test_a_repeat_is_a_repeat_before_it_is_contaminated(tmp_path: Path) -> None:
    given = sketched(table([5, 2, 9], ["a red cat", "A red cat!", "a blue dog"]), tmp_path, prompts=("a red cat",))
    chosen = chosen_of(given, Parts(), None)
    assert chosen.reason.tolist() == [EXACT, CONTAMINATED, CHOSEN]
    assert chosen.twin.tolist() == [1, -1, -1]
    assert given.why[1] == "equals the evaluation prompt 'a red cat'"


def test_kept_captions_stay_before_smaller_ones_and_are_chosen_first(tmp_path: Path) -> None:
    texts = [*dict.fromkeys(some_texts(300)), "a long caption of a dog on a mat", "a long caption of a dog on a rug"]
    given = sketched(table(list(range(len(texts))), texts), tmp_path)
    plain = chosen_of(given, Parts(part_rows=40), 30)
    lost = np.flatnonzero(plain.reason != CHOSEN)[:25]
    kept = np.zeros(len(texts), bool)
    kept[lost] = True
    for rule in RULES:
        chosen = select_captions(given, kept, len(texts), NEAR, rule, 40, 64)
        stay = lost[chosen.twin[lost] < 0]
        assert len(stay) > 5
        assert (chosen.reason[stay] == CHOSEN).all()
        assert all(kept[twin] for twin in chosen.twin[lost] if twin >= 0)
        assert (chosen.reason == CHOSEN).sum() == 40


def test_captions_of_a_kept_version_stand_in_the_way_and_are_no_prompts(tmp_path: Path) -> None:
    texts = ["a large dog runs over the green lawn of a park in the sun", "a cat", "two birds in a tree"]
    kept = "a large dog runs over the green lawn of a park in the rain"
    given = sketched(table([0, 1, 2, 3], [*texts, kept]), tmp_path)
    outside = np.array([False, False, False, True])
    chosen = select_captions(given, outside, 3, NEAR, Parts(), 1, 64)
    assert REASONS[chosen.reason[0]] == "duplicate_near"
    assert chosen.twin[0] == 3
    assert (chosen.summary["captions"], chosen.summary["left"], chosen.summary["chosen"]) == (3, 2, 1)
    assert sorted(chosen.rank[:3].tolist()) == [-1, -1, 0]


def test_diversity_is_measured_on_a_sample_of_many(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    texts = list(dict.fromkeys(f"{text} {number}" for number, text in enumerate(some_texts(600))))
    given = sketched(table(list(range(len(texts))), texts), tmp_path)
    whole = chosen_of(given, Parts(), 300, None).summary
    monkeypatch.setattr(diversity, "VENDI_ROWS", 200)
    sampled = chosen_of(given, Parts(), 300, None).summary
    for name in ("captions", "distinct", "chosen", "random"):
        assert sampled[f"vendi_{name}"] == pytest.approx(whole[f"vendi_{name}"], rel=0.35)
        assert sampled[f"vendi_{name}"] != whole[f"vendi_{name}"]


def test_coverage_counts_the_concepts_before_and_after(tmp_path: Path) -> None:
    texts = ["a red dog on the beach", "a blue dog", "a blue dog again", "an unspeakable zqx"]
    found = chosen_of(sketched(table([0, 1, 2, 3], texts), tmp_path), Balance(), 2, None).summary["coverage"]
    assert found["captions"]["colors"]["found"] == 2
    assert found["captions"]["objects"]["found"] == 1
    assert found["captions"]["places"]["found"] == 1
    # Two of three colours are blue: exp of the entropy of (1/3, 2/3).
    assert found["captions"]["colors"]["even"] == pytest.approx(1.88988, rel=1e-4)
    assert found["chosen"]["colors"]["found"] <= 2


def test_two_who_decide_in_one_folder_do_not_meet(tmp_path: Path) -> None:
    """As when a worker is taken for dead and is not."""
    first = sketched(table(list(range(300)), some_texts(300)), tmp_path)
    before = (np.array(first.terms.hashes), np.array(first.marks.grams.hashes), np.array(first.concepts.hashes))
    sketched(table([1], ["a dog"]), tmp_path)
    for kept, now in zip(before, (first.terms, first.marks.grams, first.concepts), strict=True):
        assert np.array_equal(kept, now.hashes)
    assert list(tmp_path.iterdir()) == []
