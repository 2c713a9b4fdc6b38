"""Generator `scenes`: what a caption says is what the detector of the scene world sees, at any shape of picture."""

import numpy as np
import pytest

from lightgen.generators.base import Failure
from lightgen.generators.scenes import ScenesConfig, ScenesGenerator
from lightgen.scenes.detect import Detection, detect
from lightgen.scenes.draw import draw
from lightgen.scenes.grammar import parse

GENERATOR = ScenesGenerator()


@pytest.mark.parametrize(("height", "width"), [(40, 40), (40, 72), (72, 40)])
def test_rows_are_independent_of_their_batch_and_unknown_captions_fail_alone(height: int, width: int) -> None:
    captions, seeds = ["a red circle", "a dog on a sofa", "two blue squares"], [1, 2, 3]
    circle, dog, squares = GENERATOR.generate(captions, seeds, height, width)
    assert isinstance(dog, Failure)
    assert dog.reason == "caption_not_drawable"
    assert "dog" in dog.detail
    assert isinstance(circle, np.ndarray)
    assert isinstance(squares, np.ndarray)
    assert circle.shape == squares.shape == (height, width, 3)
    assert [(thing.color, thing.shape) for thing in detect(circle)] == [("red", "circle")]
    assert [(thing.color, thing.shape) for thing in detect(squares)] == [("blue", "square")] * 2
    (alone,) = GENERATOR.generate(captions[2:], seeds[2:], height, width)
    assert np.array_equal(alone, squares)  # type: ignore[arg-type]


def _left_to_right(image: np.ndarray) -> list[Detection]:
    return sorted(detect(image), key=lambda thing: thing.box[0])


def test_a_picture_that_is_no_square_keeps_the_shares_of_its_edges() -> None:
    scene = parse("a circle left of a square")
    assert scene
    for seed in range(8):
        small, wide = _left_to_right(draw(scene, 64, seed)), _left_to_right(draw(scene, 64, seed, 128))
        for before, after in zip(small, wide, strict=True):
            (x0, y0, x1, y1), (left, top, right, bottom) = before.box, after.box
            assert (left + right) / 2 == pytest.approx(x0 + x1, abs=1)
            assert (top + bottom) / 2 == pytest.approx((y0 + y1) / 2, abs=1)
            assert right - left == pytest.approx(x1 - x0, abs=1), "as large as the shorter edge allows"


def test_identity_names_the_kind() -> None:
    assert ScenesConfig().identity() == {"kind": "scenes", "revision": ScenesConfig.REVISION}
