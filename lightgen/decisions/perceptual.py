"""Perceptual hashes of images.

The hash is the 64-bit DCT hash of Zauner (2010) with the choices of the `imagehash` package: luma at 32 x 32, the 8 x 8
lowest frequencies, one bit each for "above their median", row by row, most significant bit first.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8, UInt64
from PIL import Image

SIDE, LOW, BITS = 32, 8, 64


def luma(pixels: UInt8[np.ndarray, "height width 3"]) -> UInt8[np.ndarray, "height width"]:
    """Brightness by ITU-R 601."""
    return np.asarray(Image.fromarray(pixels).convert("L"))


def contrast(pixels: UInt8[np.ndarray, "height width 3"]) -> float:
    """Standard deviation of the channel that varies most, 0 to 0.5; luma would miss red on an equally bright grey."""
    counts = np.array(Image.fromarray(pixels).histogram(), np.int64).reshape(3, 256)
    levels, n = np.arange(256), counts[0].sum()
    # Whole numbers up to the last step, so that the score is the same on every machine.
    spread = n * (counts @ levels**2) - (counts @ levels) ** 2
    return float(np.sqrt(spread.max()) / n / 255)


def shrink(grey: UInt8[np.ndarray, "height width"]) -> UInt8[np.ndarray, "32 32"]:
    """The thumbnail that is hashed."""
    return np.asarray(Image.fromarray(grey).resize((SIDE, SIDE), Image.Resampling.LANCZOS))


def phash(thumbnails: Sequence[UInt8[np.ndarray, "32 32"]]) -> UInt64[np.ndarray, " n"]:
    """One hash for each thumbnail."""
    if not len(thumbnails):
        return np.zeros(0, np.uint64)
    basis = _dct_basis()
    low = basis @ np.stack(thumbnails).astype(np.float64) @ basis.T
    # Rounded, so that what is zero but for the last bit of a float falls on the same side everywhere.
    low = low.reshape(-1, BITS).round(6)
    bits = low > np.median(low, axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(">u8").ravel().astype(np.uint64)


def _dct_basis() -> np.ndarray:
    """[8, 32]: the first rows of an unnormalised DCT-II."""
    k, x = np.arange(LOW)[:, None], np.arange(SIDE)[None, :]
    return 2 * np.cos(np.pi * k * (2 * x + 1) / (2 * SIDE))
