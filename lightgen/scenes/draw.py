"""The exact painter: one scene, one size, one seed, one image. Sizes are shares of the image's edge, so a seed is the
same scene at every resolution."""

from random import Random
from typing import NamedTuple

import numpy as np

from lightgen.scenes.grammar import COLORS, Background, Color, Relation, Scene, Shape
from lightgen.scenes.shapes import GROUNDS, HALF_EXTENT, PALETTE, coverage


class Place(NamedTuple):
    """Where a thing stands, in shares of the image's edge: centre and size."""

    x: float
    y: float
    size: float


# Range of sizes by number of things: as large as they can be and stay apart.
_SIZES = {1: (0.54, 0.66), 2: (0.36, 0.42), 3: (0.30, 0.36), 4: (0.30, 0.36)}
_OFFSET = 0.255  # of a thing from the image's centre, along an axis where things stand side by side
_SHADE = 0.03  # lightness varies by this much
DEFAULT_GROUND: Background = "dark"  # as a photographer has one for all captions that do not ask
_ARRANGEMENT: dict[Relation, tuple[int, int]] = {
    "left of": (-1, 0),
    "right of": (1, 0),
    "above": (0, -1),
    "below": (0, 1),
}


def draw(scene: Scene, height_px: int, seed: int, width_px: int | None = None) -> np.ndarray:
    """The scene as uint8 [height_px, width_px, 3], by default a square; `seed` decides what the caption leaves open.

    On a picture that is no square, things keep their shares of both edges and are as large as its shorter edge allows.
    """
    random = Random(seed)  # the standard library's: its stream is the same in every version
    ground = scene.background or DEFAULT_GROUND
    colors = _colors(scene, random)
    things: list[Shape] = [thing.shape for thing in scene.objects for _ in range(thing.count)]
    places = places_of(scene, len(things), random)
    image = np.empty((height_px, width_px or height_px, 3), np.float32)
    image[:] = GROUNDS[ground]
    for shape, color, place in zip(things, colors, places, strict=True):
        _paint(image, shape, _shaded(PALETTE[color], random), place)
    return (image + 0.5).astype(np.uint8)


def _colors(scene: Scene, random: Random) -> list[Color]:
    """One colour a thing: things of one kind share it, two kinds never do."""
    free = random.sample(COLORS, len(scene.objects))
    named: list[Color] = [thing.color or color for thing, color in zip(scene.objects, free, strict=True)]
    return [color for thing, color in zip(scene.objects, named, strict=True) for _ in range(thing.count)]


def _shaded(rgb: tuple[int, int, int], random: Random) -> np.ndarray:
    return np.clip(np.array(rgb, np.float32) * (1 + random.uniform(-_SHADE, _SHADE)), 0, 255)


def places_of(scene: Scene, n: int, random: Random) -> list[Place]:
    """Where the `n` things of a scene stand."""
    cells = _cells(scene, n, random)
    low, high = _SIZES[n]
    wander = 0.06 if n == 1 else 0.015
    return [
        Place(
            0.5 + dx * _OFFSET + random.uniform(-wander, wander) * (1 if dx or n == 1 else 3),
            0.5 + dy * _OFFSET + random.uniform(-wander, wander) * (1 if dy or n == 1 else 3),
            random.uniform(low, high),
        )
        for dx, dy in cells
    ]


def _cells(scene: Scene, n: int, random: Random) -> list[tuple[int, int]]:
    """Where things stand: steps from the image's centre."""
    if n == 1:
        return [(0, 0)]
    if n == 2:
        dx, dy = _ARRANGEMENT[scene.relation or random.choice(tuple(_ARRANGEMENT))]
        return [(dx, dy), (-dx, -dy)]
    corners = [(-1, -1), (1, -1), (-1, 1), (1, 1)]
    if n == 3:
        corners.pop(random.randrange(4))
    return corners


def _paint(image: np.ndarray, shape: Shape, rgb: np.ndarray, place: Place) -> None:
    height, width = image.shape[:2]
    x, y, size = place.x * width, place.y * height, place.size * min(height, width)
    (x0, x1), (y0, y1) = (
        (max(0, int(at - half * size - 1)), min(edge, int(at + half * size + 2)))
        for at, edge, half in zip((x, y), (width, height), HALF_EXTENT[shape], strict=True)
    )
    alpha = coverage(shape, np.arange(x0, x1) + (0.5 - x), np.arange(y0, y1) + (0.5 - y), size)
    window = image[y0:y1, x0:x1]
    window += alpha[:, :, None].astype(np.float32) * (rgb - window)
