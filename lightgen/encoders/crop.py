"""Square crops as guided diffusion (ADM) cuts them: halve by box filter, resize bicubically, take the centre.

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
    while min(image.size) >= 2 * size_px:
        # Bicubic alone would alias above a factor of two; box halves average every pixel once.
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = size_px / min(image.size)
    if scale != 1:
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (image.width - size_px) // 2, (image.height - size_px) // 2
    return image.crop((left, top, left + size_px, top + size_px))
