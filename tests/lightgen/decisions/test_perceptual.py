"""Perceptual hashes against a naive DCT, and neighbours against brute force."""

import itertools
import math

import numpy as np
import pytest
from PIL import Image

from lightgen.decisions.perceptual import NO_OTHER, contrast, luma, nearest, phash, shrink


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


def clustered_hashes(n: int, seed: int) -> np.ndarray:
    """Hashes many of which are a few bits from another, some equal."""
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 2**64, n, dtype=np.uint64)
    copies = rng.integers(0, n, n // 2)
    flips = np.bitwise_or.reduce(
        np.uint64(1) << rng.integers(0, 64, (n // 2, 3), dtype=np.uint64), axis=1
    ) * rng.integers(0, 2, n // 2, dtype=np.uint64)
    hashes[: n // 2] = hashes[copies] ^ flips
    return rng.permutation(hashes)


@pytest.mark.parametrize("n", [1, 2, 3, 2500])
def test_nearest_is_brute_force(n: int) -> None:
    hashes = clustered_hashes(n, seed=n)
    distance, position = nearest(hashes)
    table = np.bitwise_count(hashes[:, None] ^ hashes[None, :]).astype(int)
    np.fill_diagonal(table, NO_OTHER)
    assert distance.tolist() == table.min(axis=1).tolist()
    expected = table.argmin(axis=1) if n > 1 else [-1]
    assert position.tolist() == list(expected)


def test_nearest_of_opposites_is_64_bits_away() -> None:
    distance, position = nearest(np.array([0, 2**64 - 1], np.uint64))
    assert distance.tolist() == [64, 64]
    assert position.tolist() == [1, 0]
