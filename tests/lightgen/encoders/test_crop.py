import io

import numpy as np
import pytest
from PIL import Image

from lightgen.encoders.crop import centre_crop, read_square
from lightgen.storage.pixels import BadImage


def _noise(width: int, height: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _reference(pixels: np.ndarray, size: int) -> np.ndarray:
    """ADM's procedure, in the words of guided-diffusion's `center_crop_arr`, kept as an independent reading."""
    image = Image.fromarray(pixels)
    while min(*image.size) >= 2 * size:
        image = image.resize(tuple(side // 2 for side in image.size), resample=Image.Resampling.BOX)
    scale = size / min(*image.size)
    image = image.resize(tuple(round(side * scale) for side in image.size), resample=Image.Resampling.BICUBIC)
    array = np.array(image)
    row, column = (array.shape[0] - size) // 2, (array.shape[1] - size) // 2
    return array[row : row + size, column : column + size]


@pytest.mark.parametrize(
    ("width", "height", "size"), [(97, 61, 16), (61, 97, 32), (40, 33, 32), (512, 300, 64), (20, 24, 32)]
)
def test_equals_the_reference(width: int, height: int, size: int) -> None:
    pixels = _noise(width, height)
    assert np.array_equal(np.array(centre_crop(Image.fromarray(pixels), size)), _reference(pixels, size))


def test_twice_the_size_is_the_mean_of_two_by_two() -> None:
    pixels = _noise(64, 64)
    got = np.array(centre_crop(Image.fromarray(pixels), 32)).astype(int)
    mean = pixels.astype(float).reshape(32, 2, 32, 2, 3).mean((1, 3))
    # Pillow rounds after the columns and again after the rows.
    assert np.abs(got - mean).max() <= 1


def test_the_same_size_is_untouched_and_the_centre_is_kept() -> None:
    pixels = _noise(32, 32)
    assert np.array_equal(np.array(centre_crop(Image.fromarray(pixels), 32)), pixels)
    wide = _noise(50, 32)
    assert np.array_equal(np.array(centre_crop(Image.fromarray(wide), 32)), wide[:, 9:41])


def test_transparency_lies_on_white() -> None:
    out = io.BytesIO()
    Image.new("RGBA", (16, 16), (255, 0, 0, 0)).save(out, "PNG")
    square = read_square(out.getvalue(), 16)
    assert not isinstance(square, BadImage)
    assert int(square.min()) == 255


def test_broken_bytes_say_why() -> None:
    bad = read_square(b"\x89PNG\r\n\x1a\n garbage", 16)
    assert isinstance(bad, BadImage)
    assert bad.reason == "image_truncated"
