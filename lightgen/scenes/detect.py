"""The exact detector: finds the shapes of the scene world in any picture, with a score that a blob does not reach.

A pixel's alpha is how far it lies from the background towards one palette colour. Components of equal colour are
compared with every shape drawn at their place and area; the score is the best soft overlap (IoU), less where a second
shape fits as well. A picture without a plain background has no things: blots of noise are not a scene.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8
from scipy import ndimage

from lightgen.scenes.grammar import COLORS, SHAPES, Color, Shape
from lightgen.scenes.shapes import AREA, CENTROID_DOWN, GROUNDS_RGB, HALF_EXTENT, PALETTE_RGB, coverage

MIN_AREA = 0.012  # of the picture: smaller things are specks
MAX_COLOR_DISTANCE = 95.0
MIN_LEAD = 0.02  # in overlap, of the best shape over the next: with less the score falls, to 0 at a tie
PLAIN_DISTANCE = 60.0  # RGB: border pixels this near to the background count as plain,
PLAIN_SHARE = 0.6  # and so many of them must be
CONNECTED = np.ones((3, 3), int)


@dataclass(frozen=True)
class Detection:
    """One thing: `box` is (x0, y0, x1, y1) in px, `score` 0 to 1 how well its silhouette is the shape."""

    shape: Shape
    color: Color
    score: float
    box: tuple[float, float, float, float]
    area: float


def detect(image: UInt8[np.ndarray, "h w 3"]) -> list[Detection]:
    """Things in the picture, the surest first."""
    pixels = image.astype(np.float32)
    ground = _background(pixels)
    if ground is None:
        return []
    paint = np.concatenate([PALETTE_RGB, [ground]])
    # |p - c|^2 without |p|^2, which is the same for every colour c.
    distance = np.square(paint).sum(axis=1) - 2 * pixels @ paint.T
    nearest = distance.argmin(axis=2)
    least = np.take_along_axis(distance, nearest[:, :, None], axis=2)[:, :, 0] + np.square(pixels).sum(axis=2)
    solid = (nearest < len(PALETTE_RGB)) & (least < MAX_COLOR_DISTANCE**2)
    found = [
        thing
        for color in np.unique(nearest[solid])
        for thing in _things(pixels, ground, solid & (nearest == color), int(color))
    ]
    return sorted(_distinct(found), key=lambda thing: -thing.score)


def _background(pixels: Float32[np.ndarray, "h w 3"]) -> np.ndarray | None:
    """The background that the border of the picture has most of, at its own shade; None if the border is not plain."""
    border = np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])
    nearest = np.linalg.norm(border[:, None] - GROUNDS_RGB, axis=2).argmin(axis=1)
    ground = np.median(border[nearest == np.bincount(nearest).argmax()], axis=0)
    plain = np.linalg.norm(border - ground, axis=1) < PLAIN_DISTANCE
    return ground if plain.mean() >= PLAIN_SHARE else None


def _things(pixels: np.ndarray, ground: np.ndarray, mask: np.ndarray, color: int) -> list[Detection]:
    labels: np.ndarray = ndimage.label(mask, CONNECTED)[0]  # pyright: ignore[reportIndexIssue,reportAssignmentType]
    found = []
    for label, window in enumerate(ndimage.find_objects(labels), 1):
        core = labels[window] == label
        if core.sum() >= MIN_AREA * mask.size:
            found.append(_thing(pixels, ground, labels, label, window, color))
    return found


def _thing(
    pixels: np.ndarray, ground: np.ndarray, labels: np.ndarray, label: int, window: tuple[slice, slice], color: int
) -> Detection:
    """One component, measured with its antialiased rim."""
    rows, columns = (
        slice(max(0, part.start - 2), min(size, part.stop + 2)) for part, size in zip(window, labels.shape, strict=True)
    )
    mine = ndimage.binary_dilation(labels[rows, columns] == label, CONNECTED)
    core = labels[rows, columns] == label
    fill = np.median(pixels[rows, columns][core], axis=0)
    towards = fill - ground
    alpha = np.clip((pixels[rows, columns] - ground) @ towards / max(float(towards @ towards), 1e-6), 0, 1) * mine
    area = float(alpha.sum())
    y = (alpha.sum(axis=1) @ (np.arange(rows.start, rows.stop) + 0.5)) / area
    x = (alpha.sum(axis=0) @ (np.arange(columns.start, columns.stop) + 0.5)) / area
    overlap = {shape: _overlap(shape, alpha, rows, columns, x, y, area) for shape in SHAPES}
    best, second = sorted(SHAPES, key=lambda shape: -overlap[shape])[:2]
    lead = min(1.0, (overlap[best] - overlap[second]) / MIN_LEAD)
    return Detection(best, COLORS[color], overlap[best] * lead, _box(best, x, y, area), area)


def _overlap(shape: Shape, alpha: np.ndarray, rows: slice, columns: slice, x: float, y: float, area: float) -> float:
    """Soft IoU of a silhouette with the shape of the same area and centroid."""
    size = float(np.sqrt(area / AREA[shape]))
    xs = np.arange(columns.start, columns.stop) + 0.5 - x
    ys = np.arange(rows.start, rows.stop) + 0.5 - (y - CENTROID_DOWN[shape] * size)
    drawn = coverage(shape, xs, ys, size)
    # What the window cuts off counts as missing.
    cut = max(area - float(drawn.sum()), 0.0)
    return float(np.minimum(alpha, drawn).sum() / (np.maximum(alpha, drawn).sum() + cut))


def _box(shape: Shape, x: float, y: float, area: float) -> tuple[float, float, float, float]:
    size = float(np.sqrt(area / AREA[shape]))
    half_x, half_y = HALF_EXTENT[shape][0] * size, HALF_EXTENT[shape][1] * size
    middle = y - CENTROID_DOWN[shape] * size
    return (x - half_x, middle - half_y, x + half_x, middle + half_y)


def _distinct(found: list[Detection]) -> list[Detection]:
    """Without rims: a thin ring of another colour inside the box of a larger thing is its blurred edge."""
    return [
        thing for thing in found if not any(other.area > 2 * thing.area and _inside(thing, other) for other in found)
    ]


def _inside(thing: Detection, other: Detection) -> bool:
    x, y = (thing.box[0] + thing.box[2]) / 2, (thing.box[1] + thing.box[3]) / 2
    return other.box[0] < x < other.box[2] and other.box[1] < y < other.box[3]
