"""Evaluation prompts found in captions: by equality, by their n-grams, by similarity."""

import random

from lightgen.decisions.contamination import ContaminationConfig, contaminated
from lightgen.decisions.shingles import shingle
from lightgen.texts import normalised

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
