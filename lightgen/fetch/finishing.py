"""From the bytes of an answer to a picture that is stored: decoded behind guards, and as received unless cropped."""

import hashlib
from dataclasses import dataclass

import numpy as np
from PIL import Image

from lightgen.encoders.crop import centre_crop
from lightgen.fetch.states import Failed, Got, Made
from lightgen.storage.pixels import BadImage, ImageFormat, Limits, decode_image, encode_image, sniff


@dataclass(frozen=True)
class Keeping:
    """What a picture must be, and how it is kept; without `crop_px` as it was received."""

    limits: Limits
    crop_px: int | None
    format: ImageFormat
    quality: int


def finish(data: bytes, keeping: Keeping) -> Made:
    """The picture, or why the bytes are none. The decoder lets other threads run."""
    pixels = decode_image(data, keeping.limits)
    if isinstance(pixels, BadImage):
        return Failed(pixels.reason, pixels.detail)
    received, format = hashlib.sha256(data).hexdigest(), sniff(data)
    assert format is not None, "it was decoded"
    if keeping.crop_px is None:
        return Got(data, format, pixels.shape[0], pixels.shape[1], received, received)
    square = np.array(centre_crop(Image.fromarray(pixels), keeping.crop_px))
    kept = encode_image(square, keeping.format, keeping.quality)
    return Got(kept, keeping.format, keeping.crop_px, keeping.crop_px, hashlib.sha256(kept).hexdigest(), received)
