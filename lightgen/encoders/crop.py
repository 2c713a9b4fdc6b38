"""Crops to given sides as guided diffusion (ADM) cuts them: halve by box filter, resize bicubically, take the centre.

ADM's crops are squares; others are cut by the same rule, so that a square is a special case.

Source: preprocessing of ADM, kept by DiT, MAR and LightGen's `util/crop.py`.
"""

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from lightgen.storage.pixels import BadImage, decode_image


def read_square(data: bytes, size_px: int) -> UInt8[Tensor, "size size 3"] | BadImage:
    """An encoded image as RGB, cropped to `size_px`; or why its bytes are not an image."""
    pixels = decode_image(data)
    if isinstance(pixels, BadImage):
        return pixels
    return torch.from_numpy(np.array(centre_crop(Image.fromarray(pixels), size_px)))


def centre_crop(image: Image.Image, size_px: int) -> Image.Image:
    """The centre square of an image with its short side scaled to `size_px`."""
    return crop_to(image, size_px, size_px)


def crop_to(image: Image.Image, height_px: int, width_px: int) -> Image.Image:
    """The centre of an image that is scaled until it just covers these sides."""
    while image.width >= 2 * width_px and image.height >= 2 * height_px:
        # Bicubic alone would alias above a factor of two; box halves average every pixel once.
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = max(width_px / image.width, height_px / image.height)
    if scale != 1:
        sides = (max(width_px, round(image.width * scale)), max(height_px, round(image.height * scale)))
        image = image.resize(sides, Image.Resampling.BICUBIC)
    left, top = (image.width - width_px) // 2, (image.height - height_px) // 2
    return image.crop((left, top, left + width_px, top + height_px))
