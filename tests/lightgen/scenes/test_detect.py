from itertools import islice

import numpy as np
import pyarrow as pa
import pytest
from scipy import ndimage

from lightgen.decisions.derive import Scenes, derive
from lightgen.scenes.detect import detect
from lightgen.scenes.draw import draw
from lightgen.scenes.grammar import SHAPES, TASKS, Object, Scene, Shape, Task, captions, parse
from lightgen.scenes.shapes import GROUNDS, PALETTE, coverage
from lightgen.scorers.scenes import ScenesDetector

SURE = Scenes().sure


def _sure(image: np.ndarray) -> list[str]:
    return [thing.shape for thing in detect(image) if thing.score > SURE]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(("size_px", "noise"), [(32, 0), (32, 12), (64, 0), (64, 12), (128, 0)])
def test_the_painters_scenes_are_judged_right(task: Task, size_px: int, noise: int) -> None:
    detector, random = ScenesDetector(), np.random.default_rng(3)
    for seed, text in enumerate(islice(captions("train", task), 25)):
        scene = parse(text)
        assert scene
        image = draw(scene, size_px, seed) + random.normal(0, noise, (size_px, size_px, 3))
        image = image.clip(0, 255).astype(np.uint8)
        raw = detector.score([image], [text]).append_column("caption", pa.array([text]))
        assert derive(raw, Scenes())["correct"].to_pylist() == [True], (text, seed)


@pytest.mark.parametrize("size_px", [32, 64])
def test_a_blurred_single_thing_is_still_seen(size_px: int) -> None:
    for seed, shape in enumerate(SHAPES * 5):
        image = draw(Scene("single_object", (Object(shape),)), size_px, seed).astype(float)
        blurred = ndimage.gaussian_filter(image, (size_px / 32, size_px / 32, 0)).astype(np.uint8)
        assert _sure(blurred) == [shape]


def test_the_box_and_area_are_those_of_the_thing() -> None:
    image = np.full((48, 48, 3), GROUNDS["light"], np.float32)
    alpha = coverage("triangle", np.arange(48) + 0.5 - 20, np.arange(48) + 0.5 - 27, 20.0)
    image += alpha[:, :, None] * (np.array(PALETTE["blue"]) - image)
    (thing,) = detect(image.astype(np.uint8))
    assert (thing.shape, thing.color) == ("triangle", "blue")
    assert thing.box == pytest.approx((20 - 10.8, 27 - 9.8, 20 + 10.8, 27 + 9.8), abs=0.3)
    assert thing.area == pytest.approx(alpha.sum(), rel=0.02)


@pytest.mark.parametrize("size_px", [32, 64])
def test_noise_blots_and_blank_pictures_hold_nothing(size_px: int) -> None:
    random = np.random.default_rng(0)
    shape = (size_px, size_px, 3)
    for _ in range(40):
        assert not _sure(random.integers(0, 256, shape, dtype=np.uint8))
        blots = ndimage.gaussian_filter(random.normal(0, 1, shape), (size_px / 10, size_px / 10, 0))
        assert not _sure((128 + blots * 32 * size_px).clip(0, 255).astype(np.uint8))
        assert not detect(np.full(shape, random.integers(0, 256, 3), np.uint8))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("side", ["left", "right", "top", "bottom"])
def test_half_a_shape_is_no_shape(shape: Shape, side: str) -> None:
    if (shape, side) == ("triangle", "top"):
        pytest.skip("the upper half of a triangle is a triangle")
    kept = np.zeros((64, 64), bool)
    kept[{"top": slice(0, 32), "bottom": slice(32, 64)}.get(side, slice(None))] = True
    kept[:, {"left": slice(32, 64), "right": slice(0, 32)}.get(side, slice(None))] = False
    alpha = coverage(shape, np.arange(64) - 31.5, np.arange(64) - 31.5, 38.0) * kept
    image = np.array(GROUNDS["dark"]) + alpha[:, :, None] * (np.array(PALETTE["red"]) - np.array(GROUNDS["dark"]))
    assert shape not in _sure(image.astype(np.uint8))


def test_between_circle_and_square_lies_a_blob_that_is_neither() -> None:
    at = np.abs(np.arange(64) - 31.5) / 18
    seen = []
    for power in (2, 3.2, 3.6, 4.0, 4.5, 5.0, 40):
        blob = at[None] ** power + at[:, None] ** power < 1
        seen.append(_sure(np.where(blob[:, :, None], PALETTE["red"], GROUNDS["dark"]).astype(np.uint8)))
    assert seen[0] == ["circle"]
    assert seen[-1] == ["square"]
    assert [] in seen
