"""Geometry and palette: what the painter draws and the detector looks for.

Coverage is exact for squares and crosses and within 1/50 of a pixel's area for circles and triangles, at any sub-pixel
place, so an image needs no supersampling.
"""

import numpy as np

from lightgen.scenes.grammar import BACKGROUNDS, COLORS, Background, Color, Shape

# Near the corners of the RGB cube: as far from one another and from the backgrounds as colours can be.
PALETTE: dict[Color, tuple[int, int, int]] = {
    "red": (226, 48, 44),
    "yellow": (250, 214, 48),
    "green": (40, 168, 70),
    "cyan": (64, 212, 230),
    "blue": (44, 84, 226),
    "purple": (178, 56, 208),
}
GROUNDS: dict[Background, tuple[int, int, int]] = {
    "dark": (26, 28, 36),
    "gray": (134, 136, 142),
    "light": (243, 243, 239),
}
PALETTE_RGB = np.array([PALETTE[name] for name in COLORS], np.float32)  # [6, 3]
GROUNDS_RGB = np.array([GROUNDS[name] for name in BACKGROUNDS], np.float32)  # [3, 3]

# Half width and half height of a shape of size 1; chosen for areas that look alike.
HALF_EXTENT: dict[Shape, tuple[float, float]] = {
    "circle": (0.5, 0.5),
    "square": (0.45, 0.45),
    "triangle": (0.54, 0.49),
    "cross": (0.5, 0.5),
}
CROSS_ARM = 0.36  # width of an arm
# Area of a shape of size 1, and how far its centroid lies below the centre of its box.
AREA: dict[Shape, float] = {
    "circle": float(np.pi) / 4,
    "square": 0.81,
    "triangle": 2 * 0.54 * 0.49,
    "cross": CROSS_ARM * (2 - CROSS_ARM),
}
CENTROID_DOWN: dict[Shape, float] = {"circle": 0.0, "square": 0.0, "triangle": 0.49 / 3, "cross": 0.0}


def coverage(shape: Shape, x: np.ndarray, y: np.ndarray, size: float) -> np.ndarray:
    """Share [h, w] of each unit pixel that a shape of `size` px covers; x [w], y [h]: pixel centres from its centre."""
    if shape == "square":
        half = HALF_EXTENT["square"][0] * size
        return np.outer(_span(y, half), _span(x, half))
    if shape == "cross":
        long, short = size / 2, CROSS_ARM * size / 2
        long_x, short_x, long_y, short_y = _span(x, long), _span(x, short), _span(y, long), _span(y, short)
        return np.outer(long_y, short_x) + np.outer(short_y, long_x - short_x)
    if shape == "circle":
        distance = np.sqrt(np.square(x)[None] + np.square(y)[:, None])
        return np.clip(size / 2 + 0.5 - distance, 0, 1)
    return _triangle(x, y, size)


def _span(at: np.ndarray, half: float) -> np.ndarray:
    """Share of each unit interval around `at` that lies within [-half, half]."""
    return np.clip(np.minimum(at + 0.5, half) - np.maximum(at - 0.5, -half), 0, 1)


def _triangle(x: np.ndarray, y: np.ndarray, size: float) -> np.ndarray:
    """Pointing up; the slanted edges by the width they leave to each row, so corners stay exact to second order."""
    half_x, half_y = HALF_EXTENT["triangle"][0] * size, HALF_EXTENT["triangle"][1] * size
    parts = y[:, None] + np.array([-0.375, -0.125, 0.125, 0.375])  # quarter rows
    half = np.clip((parts + half_y) / (2 * half_y), 0, 1) * half_x * (parts <= half_y)  # [h, 4]
    edges = np.clip(half[:, :, None] + 0.5 - np.abs(x), 0, 1)
    return np.minimum(edges, 2 * half[:, :, None]).mean(axis=1)
