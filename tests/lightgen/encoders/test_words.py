import torch

from lightgen.encoders.words import WordsConfig, WordsEncoder, words_of


def test_words_without_punctuation_or_case() -> None:
    assert words_of("Two RED circles, left of a dog's ball.") == [
        "two",
        "red",
        "circles",
        "left",
        "of",
        "a",
        "dog's",
        "ball",
    ]
    assert words_of("ein GRÜNER Straßenzug, 3 猫") == ["ein", "grüner", "strassenzug", "3", "猫"]


def test_a_word_has_one_vector_wherever_it_stands() -> None:
    encoder = WordsEncoder(WordsConfig(dim=10))
    first, second = encoder.encode(["a red circle", "Circle red"])
    assert torch.equal(first[1], second[1])
    assert torch.equal(first[2], second[0])
    assert torch.equal(WordsEncoder(WordsConfig(dim=10)).encode(["a red circle"])[0], first)


def test_vectors_are_unit_length_and_nearly_orthogonal() -> None:
    encoder = WordsEncoder(WordsConfig(dim=256))
    vectors = torch.cat(encoder.encode(["red green blue yellow circle square triangle star one two three four"]))
    cosines = vectors @ vectors.T
    assert torch.allclose(cosines.diag(), torch.ones(12), atol=2e-3)
    assert float((cosines - torch.eye(12) * cosines.diag()).abs().max()) < 0.3


def test_values_are_already_what_is_stored() -> None:
    vectors = WordsEncoder(WordsConfig(dim=7)).encode(["two squares"])[0]
    assert torch.equal(vectors, vectors.half().float())


def test_empty_and_long_captions() -> None:
    encoder = WordsEncoder(WordsConfig(dim=5, max_tokens=3))
    empty, long = encoder.encode(["?!", "one two three four five"])
    assert (tuple(empty.shape), tuple(long.shape)) == ((0, 5), (3, 5))


def test_context_tells_who_has_which_neighbour() -> None:
    plain, tinted = WordsEncoder(WordsConfig(dim=256)), WordsEncoder(WordsConfig(dim=256, context=2))
    both = ["a red circle left of a blue square", "a blue circle left of a red square"]
    assert torch.equal(plain.encode(both)[0][2], plain.encode(both)[1][2])
    red, blue = (vectors[2] for vectors in tinted.encode(both))  # "circle", after "red" and after "blue"
    assert float(red @ blue) < 0.95
    # The word itself remains the largest part.
    assert float(red @ plain.encode(both)[0][2]) > 0.5


def test_context_is_a_sum_over_neighbours_within_reach() -> None:
    """Against a loop: a word that is changed out of reach moves nothing, one within reach moves by its side."""
    encoder = WordsEncoder(WordsConfig(dim=64, context=1))
    one, two, three = (encoder.encode([text])[0] for text in ("a b c d", "a b c x", "x b c d"))
    assert torch.equal(one[:2], two[:2])
    assert torch.equal(one[2:], three[2:])
    assert not torch.equal(one[2], two[2])
    before, after = encoder.encode(["x b", "b x"])
    assert not torch.allclose(before[1], after[0])
    torch.testing.assert_close(one.norm(dim=1), torch.ones(4), atol=2e-3, rtol=0)


def test_a_lone_word_has_no_neighbours() -> None:
    plain, tinted = WordsEncoder(WordsConfig()), WordsEncoder(WordsConfig(context=3))
    assert torch.equal(plain.encode(["cross"])[0], tinted.encode(["cross"])[0])
    assert tinted.encode([""])[0].shape == (0, 64)
