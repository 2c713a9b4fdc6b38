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
