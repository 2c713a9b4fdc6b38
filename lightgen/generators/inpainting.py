"""Inpainting: the part of a picture under a mask is drawn again; the rest is seen and kept (model_facts 4.6)."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from scipy import ndimage
from torch import Tensor

from lightgen.errors import ConfigError
from lightgen.generators.sampler import Images, Sampler, token_grid
from lightgen.model.masking import patchify
from lightgen.model.sampling import Hole, SampleConfig
from lightgen.model.student import Grid


def inpaint(
    sampler: Sampler,
    image: UInt8[np.ndarray, "h w 3"],
    mask: Bool[np.ndarray, "h w"],
    captions: Sequence[str],
    seeds: Sequence[int],
    config: SampleConfig,
) -> Images:
    """One filled picture a caption; pixels outside `mask` are those of `image`, to the last bit.

    Raises ConfigError for sizes that differ or are no multiples of a token's, and for a mask that covers nothing.
    """
    if mask.shape != image.shape[:2]:
        raise ConfigError(
            f"the mask is {mask.shape[1]} x {mask.shape[0]} px, the image {image.shape[1]} x {image.shape[0]}"
        )
    if not mask.any():
        raise ConfigError("the mask covers nothing: paint white what is to be drawn again")
    if len(captions) != len(seeds):
        raise ConfigError(f"{len(captions)} captions need as many seeds, not {len(seeds)}")
    grid = token_grid(sampler.student, sampler.vae, *mask.shape)
    mean, _ = sampler.vae.encode(torch.from_numpy(image[None]))
    tokens = patchify(mean, sampler.student.config.patch)
    hidden = hidden_tokens(mask, grid)
    size = config.batch_size
    parts = []
    for first in range(0, len(captions), size):
        some = captions[first : first + size]
        hole = Hole(tokens.expand(len(some), -1, -1), hidden)
        parts.append(sampler.batch(some, seeds[first : first + size], grid, config, hole=hole))
    return np.where(mask[None, :, :, None], np.concatenate(parts), image[None])


def hidden_tokens(mask: Bool[np.ndarray, "h w"], grid: Grid) -> Bool[Tensor, " n"]:
    """Tokens that a masked pixel lies in, and their neighbours on all eight sides.

    The neighbours because the VAE sees beyond a token: what is to vanish has leaked into them.
    """
    height, width = mask.shape
    cells = mask.reshape(grid.rows, height // grid.rows, grid.columns, width // grid.columns).any(axis=(1, 3))
    return torch.from_numpy(ndimage.binary_dilation(cells, np.ones((3, 3), bool)).flatten())
