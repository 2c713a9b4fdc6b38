import numpy as np
import pytest

from lightgen.scenes.draw import draw
from lightgen.scenes.grammar import COLORS, SHAPES, TASKS, Object, Scene, Shape, Task, all_scenes, parse
from lightgen.scenes.shapes import AREA, CENTROID_DOWN, GROUNDS, HALF_EXTENT, PALETTE, coverage


def _scene(text: str) -> Scene:
    scene = parse(text)
    assert scene, text
    return scene


def _supersampled(shape: Shape, size: float, x: float, y: float, edge: int, times: int) -> np.ndarray:
    """Coverage by counting points, from the definition of each shape."""
    at = (np.arange(edge * times) + 0.5) / times
    dx, dy = (at - x)[None] / size, (at - y)[:, None] / size
    half_x, half_y = HALF_EXTENT[shape]
    inside = {
        "circle": np.hypot(dx, dy) <= 0.5,
        "square": np.maximum(abs(dx), abs(dy)) <= half_x,
        "triangle": (abs(dy) <= half_y) & (abs(dx) <= half_x * (dy + half_y) / (2 * half_y)),
        "cross": (np.maximum(abs(dx), abs(dy)) <= 0.5) & (np.minimum(abs(dx), abs(dy)) <= 0.18),
    }[shape]
    return inside.reshape(edge, times, edge, times).mean(axis=(1, 3))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("size", "x", "y"), [(9.3, 8.21, 7.6), (12.0, 8.0, 8.0), (5.5, 7.4, 8.9)])
def test_coverage_agrees_with_counted_points(shape: Shape, size: float, x: float, y: float) -> None:
    ours = coverage(shape, np.arange(16) + 0.5 - x, np.arange(16) + 0.5 - y, size)
    counted = _supersampled(shape, size, x, y, 16, 32)
    assert np.abs(ours - counted).mean() < 0.01
    assert np.abs(ours - counted).max() < 0.2
    assert ours.sum() == pytest.approx(AREA[shape] * size**2, rel=0.04)
    centroid = (ours.sum(axis=1) @ (np.arange(16) + 0.5)) / ours.sum()
    assert centroid - y == pytest.approx(CENTROID_DOWN[shape] * size, abs=0.1)


def test_a_caption_and_a_seed_decide_the_picture() -> None:
    scene = _scene("two circles")
    assert np.array_equal(draw(scene, 32, 5), draw(scene, 32, 5))
    assert not np.array_equal(draw(scene, 32, 5), draw(scene, 32, 6))


@pytest.mark.parametrize(
    "text", ["a circle", "a red cross and a blue square", "four triangles", "a circle above a cross"]
)
def test_a_seed_is_the_same_scene_at_every_size(text: str) -> None:
    scene = _scene(text)
    for seed in range(5):
        small = draw(scene, 32, seed).astype(int)
        large = draw(scene, 128, seed).reshape(32, 4, 32, 4, 3).mean(axis=(1, 3))
        assert np.abs(small - large).mean() < 1.0


@pytest.mark.parametrize("task", TASKS)
def test_everything_is_inside_and_named_grounds_are_kept(task: Task) -> None:
    scenes = all_scenes(task)
    for number in range(0, len(scenes), max(1, len(scenes) // 40)):
        scene = scenes[number]
        image = draw(scene, 37, number)
        assert image.shape == (37, 37, 3)
        assert image.dtype == np.uint8
        border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
        # At 37 px the outermost thing may tint a pixel of the rim, and no more.
        assert (border == GROUNDS[scene.background or "dark"]).all(axis=1).mean() > 0.85


@pytest.mark.parametrize("color", COLORS)
def test_the_colour_is_the_palettes_within_its_shade(color) -> None:
    image = draw(Scene("colors", (Object("square", color),)), 64, 1)
    assert np.abs(image[32, 32].astype(int) - np.array(PALETTE[color])).max() <= 8


def test_open_colours_vary_and_two_things_never_share_one() -> None:
    seen = set()
    for seed in range(60):
        image = draw(_scene("a square left of a circle"), 64, seed)
        left, right = image[32, 16].astype(int), image[32, 48].astype(int)
        assert np.abs(left - right).max() > 60
        seen.add(tuple(np.abs(np.array(list(PALETTE.values())) - left).sum(axis=1).argsort()[:1]))
    assert len(seen) == len(COLORS)
