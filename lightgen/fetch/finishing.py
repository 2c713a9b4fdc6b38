"""From the bytes of an answer to a picture that is stored: decoded behind guards, and as received unless cropped."""

import hashlib
from dataclasses import dataclass

import numpy as np
from PIL import Image

from lightgen.encoders.crop import centre_crop
from lightgen.fetch.states import Failed, Got, Made
from lightgen.storage.pixels import BadImage, ImageFormat, Limits, check_image, decode_image, encode_image, sniff


@dataclass(frozen=True)
class Keeping:
    """What a picture must be, and how it is kept; without `crop_px` as it was received."""

    limits: Limits
    crop_px: int | None
    format: ImageFormat
    quality: int


def finish(data: bytes, keeping: Keeping) -> Made:
    """The picture, or why the bytes are none. The decoder lets other threads run."""
    if keeping.crop_px is not None:
        return _cropped(data, keeping, keeping.crop_px)
    sides, format = check_image(data, keeping.limits), sniff(data)
    if isinstance(sides, BadImage):
        return Failed(sides.reason, sides.detail)
    assert format is not None, "it was decoded"
    digest = hashlib.sha256(data).hexdigest()
    return Got(data, format, *sides, digest, digest)


def _cropped(data: bytes, keeping: Keeping, side_px: int) -> Made:
    pixels = decode_image(data, keeping.limits)
    if isinstance(pixels, BadImage):
        return Failed(pixels.reason, pixels.detail)
    square = np.array(centre_crop(Image.fromarray(pixels), side_px))
    kept, received = encode_image(square, keeping.format, keeping.quality), hashlib.sha256(data).hexdigest()
    return Got(kept, keeping.format, side_px, side_px, hashlib.sha256(kept).hexdigest(), received)
