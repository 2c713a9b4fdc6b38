"""Captions that tell left from right, or promise writing, are never shown mirrored."""

import pytest

from lightgen.encoders.mirror import may_mirror


@pytest.mark.parametrize(
    "caption",
    [
        "a red circle left of a blue square",
        "the leftmost of three dogs",
        "A car to the RIGHT, seen from above",
        "a wheel turning counter-clockwise",
        "a man facing the camera",
        "a neon sign above a door",
        "a shirt that says HELLO",
        'a cake with "42" on it',
        "a poster reading 'open late'",
        "a clock on a tower",
        "two words in sand",
    ],
)
def test_sides_and_writing_forbid_it(caption: str) -> None:
    assert not may_mirror(caption)


@pytest.mark.parametrize(
    "caption",
    [
        "two red circles",
        "a dog above a cat",
        "a girl's dog, it's brown",
        "bright lights over a lake",
        "an upright piano",
    ],
)
def test_what_knows_no_sides_may_be_mirrored(caption: str) -> None:
    assert may_mirror(caption)
