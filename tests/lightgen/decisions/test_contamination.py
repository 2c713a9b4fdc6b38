"""Evaluation prompts found in captions: by equality, by their n-grams, by similarity."""

import random

import pytest

from lightgen.decisions.contamination import ContaminationConfig, Screen, contaminated
from lightgen.decisions.shingles import read_words, shingle
from lightgen.texts import normalised, plain_words

PROMPTS = ["a photo of a red bench", "life", "two green birds above a small wooden boat", "🐶"]


def test_equal_after_normalisation() -> None:
    found = contaminated(
        ["A photo of a RED bench.", "Life!", "life is good", "🐱", "🐶"], PROMPTS, ContaminationConfig()
    )
    assert sorted(found) == [0, 1, 4]
    assert found[0] == "equals the evaluation prompt 'a photo of a red bench'"


def test_containment_and_its_switch() -> None:
    captions = ["here is a photo of a red bench in a park", "a photo of a blue bench", "a photo of a red house"]
    found = contaminated(captions, PROMPTS, ContaminationConfig())
    assert found == {0: "holds 100% of the evaluation prompt 'a photo of a red bench'"}
    assert contaminated(captions, PROMPTS, ContaminationConfig(containment=None)) == {}
    assert sorted(contaminated(captions, PROMPTS, ContaminationConfig(containment=0.6))) == [0, 2]


def test_near_duplicates_of_a_prompt() -> None:
    caption = "two green birds above a little wooden boat"
    assert contaminated([caption], PROMPTS, ContaminationConfig()) == {}
    found = contaminated([caption], PROMPTS, ContaminationConfig(similarity=0.5))
    assert found == {0: "is 56% like the evaluation prompt 'two green birds above a small wooden boat'"}


def test_against_all_pairs() -> None:
    rng = random.Random(0)
    captions = [" ".join(rng.choices("bcdefghi", k=rng.randint(3, 12))) for _ in range(600)]
    prompts = [" ".join(rng.choices("bcdefghi", k=rng.randint(3, 8))) for _ in range(60)]
    theirs, mine = shingle(prompts, 2), shingle(captions, 2)
    expected = set()
    for i, caption in enumerate(captions):
        for p, prompt in enumerate(prompts):
            a, b = set(mine.of(i).tolist()), set(theirs.of(p).tolist())
            if normalised(caption) == normalised(prompt) or len(a & b) >= 0.5 * len(a | b):
                expected.add(i)
    found = contaminated(captions, prompts, ContaminationConfig(containment=None, similarity=0.5))
    assert set(found) == expected
    assert 5 < len(expected) < 500


def test_no_prompts() -> None:
    assert contaminated(["a"], [], ContaminationConfig(similarity=0.5)) == {}
    assert contaminated([], PROMPTS, ContaminationConfig(similarity=0.5)) == {}


@pytest.mark.parametrize(
    "config",
    [
        ContaminationConfig(),
        ContaminationConfig(containment=None),
        ContaminationConfig(words=2, containment=0.5),
        ContaminationConfig(similarity=0.3),
        ContaminationConfig(words=1, similarity=0.3),
    ],
)
def test_the_screen_lets_through_all_that_is_contaminated_and_little_else(config: ContaminationConfig) -> None:
    prompts = ["a photo of a red bench", "two green birds above a small boat", "the", "🐶", "a bear", "x y"]
    leaks = [
        "An image of RED bench!", "red  bénch", "photo of photo of a red bench", "2 green birds above small boat, dusk",
        "the", "The.", "🐶", "🐶 🐶", "bear", "a photo of the bear", "x", "x y", "a bear in a wood", "", "of", "a the",
    ]  # fmt: skip
    others = [f"caption {number} of nothing that a list asks for" for number in range(500)]
    captions = [one for pair in zip(others, leaks * 32, strict=False) for one in pair]
    suspects = Screen.of(prompts, config).suspects(read_words([plain_words(text) for text in captions]))
    found = contaminated([captions[row] for row in suspects], prompts, config)
    whole = contaminated(captions, prompts, config)
    assert {int(suspects[row]): said for row, said in found.items()} == whole
    assert len(whole) > 100
    if config.words > 1:  # single words stand everywhere
        assert not {2 * number for number in range(500)} & set(suspects.tolist())


def test_without_prompts_nobody_is_suspect() -> None:
    assert len(Screen.of([], ContaminationConfig()).suspects(read_words(["a", "b"]))) == 0
