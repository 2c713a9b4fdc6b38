"""Perceptual hashes against a naive DCT."""

import itertools
import math

import numpy as np
import pytest
from PIL import Image

from lightgen.decisions.perceptual import contrast, luma, phash, shrink


def naive_phash(thumbnail: np.ndarray) -> int:
    """The definition, in pure Python floats: DCT-II by its sum, 8 x 8 corner, above the median."""
    low = [[0.0] * 8 for _ in range(8)]
    for v in range(8):
        for u in range(8):
            low[v][u] = sum(
                float(thumbnail[y, x])
                * math.cos(math.pi * v * (2 * y + 1) / 64)
                * math.cos(math.pi * u * (2 * x + 1) / 64)
                for y in range(32)
                for x in range(32)
            )
    flat = [value for row in low for value in row]
    ordered = sorted(flat)
    median = (ordered[31] + ordered[32]) / 2
    return int("".join("1" if value > median else "0" for value in flat), 2)


def pictures(n: int, seed: int = 0, side: int = 48) -> list[np.ndarray]:
    """Smooth random pictures, all different."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (n, 5, 7, 3), dtype=np.uint8)
    return [np.array(Image.fromarray(one).resize((side + 9, side), Image.Resampling.BICUBIC)) for one in coarse]


def hash_of(image: np.ndarray) -> int:
    return int(phash([shrink(luma(image))])[0])


def test_phash_is_the_naive_dct_hash() -> None:
    thumbnails = [shrink(luma(image)) for image in pictures(12)]
    assert phash(thumbnails).tolist() == [naive_phash(thumbnail) for thumbnail in thumbnails]


def test_phash_does_not_depend_on_the_batch() -> None:
    thumbnails = [shrink(luma(image)) for image in pictures(37)]
    assert phash(thumbnails).tolist() == [int(phash([one])[0]) for one in thumbnails]
    assert phash([]).shape == (0,)


def test_a_flat_image_hashes_the_same_at_any_grey() -> None:
    assert len({hash_of(np.full((20, 30, 3), grey, np.uint8)) for grey in (1, 77, 200, 255)}) == 1


def test_phash_survives_small_changes_and_tells_pictures_apart() -> None:
    images = pictures(24, side=64)
    rng = np.random.default_rng(1)
    noisy = [np.clip(image + rng.normal(0, 6, image.shape), 0, 255).astype(np.uint8) for image in images]
    smaller = [np.array(Image.fromarray(image).resize((41, 37))) for image in images]
    near = [
        (hash_of(image) ^ hash_of(other)).bit_count() for image, other in zip(images * 2, noisy + smaller, strict=True)
    ]
    far = [(hash_of(a) ^ hash_of(b)).bit_count() for a, b in itertools.pairwise(images)]
    assert max(near) <= 6
    assert min(far) >= 12


def test_contrast_is_the_spread_of_the_liveliest_channel() -> None:
    half = np.zeros((10, 10, 3), np.uint8)
    half[:5] = 255
    assert contrast(half) == pytest.approx(0.5)
    assert contrast(np.full((4, 4, 3), 9, np.uint8)) == 0.0
    image = pictures(1)[0]
    assert contrast(image) == pytest.approx((image.reshape(-1, 3) / 255).std(axis=0).max(), abs=1e-12)


def test_contrast_sees_colours_of_equal_brightness() -> None:
    image = np.full((20, 20, 3), 76, np.uint8)
    image[:10] = (255, 0, 0)
    assert luma(image).std() < 1
    assert contrast(image) > 0.3
