"""Draws pixels with a sealed checkpoint: its student, the VAE and the text encoder its features were made with."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from lightgen.encoders.restore import load_encoders
from lightgen.encoders.text import TextEncoder, check_padding
from lightgen.encoders.vae import Vae
from lightgen.errors import ConfigError
from lightgen.generators.restore import Weights, checkpoint_config, load_student
from lightgen.model.masking import unpatchify
from lightgen.model.padding import stack_text
from lightgen.model.sampling import Hole, OnStep, SampleConfig, sample_latents
from lightgen.model.student import Grid, Student, Text
from lightgen.storage.store import Store
from lightgen.storage.version import Version

Images = UInt8[np.ndarray, "n h w 3"]


@dataclass(frozen=True)
class Sampler:
    """Captions in, images out."""

    student: Student
    vae: Vae
    text: TextEncoder
    size_px: int
    device: str

    def __post_init__(self) -> None:
        check_padding(self.student.config.attend_padding, self.text.padded)

    @classmethod
    def from_checkpoint(cls, version: Version, store: Store, device: str = "cpu", weights: Weights = "ema") -> Self:
        """The sampler of a CHECKPOINT version."""
        settings = checkpoint_config(version)
        vae, text = load_encoders(settings.encoders, store, device)
        return cls(load_student(version, weights).to(device), vae, text, settings.size_px, device)

    def images(
        self,
        captions: Sequence[str],
        seeds: Sequence[int],
        config: SampleConfig,
        height: int | None = None,
        width: int | None = None,
        negative: str | None = None,
        on_step: OnStep | None = None,
    ) -> Images:
        """One image a caption, by default of the size trained on; guided away from `negative`, or from no text at all.

        An image is decided by its caption, seed and size, however many are drawn together. Raises ConfigError for a
        size that is no multiple of a token's.
        """
        if len(captions) != len(seeds):
            raise ConfigError(f"{len(captions)} captions need as many seeds, not {len(seeds)}")
        grid = token_grid(self.student, self.vae, height or self.size_px, width or self.size_px)
        size = config.batch_size
        parts = [
            self.batch(captions[first : first + size], seeds[first : first + size], grid, config, negative, on_step)
            for first in range(0, len(captions), size)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, self.size_px, self.size_px, 3), np.uint8)

    @torch.no_grad()
    def batch(
        self,
        captions: Sequence[str],
        seeds: Sequence[int],
        grid: Grid,
        config: SampleConfig,
        negative: str | None = None,
        on_step: OnStep | None = None,
        hole: Hole | None = None,
    ) -> Images:
        """Images drawn together, whole or only where `hole` says."""
        against = None if negative is None else self._aligned([negative] * len(captions))
        text = self._aligned(captions)
        tokens = sample_latents(self.student, text, grid, seeds, config, hole=hole, against=against, on_step=on_step)
        return decode_tokens(self.student, self.vae, tokens, grid)

    def _aligned(self, captions: Sequence[str]) -> Text:
        text, keep = stack_text(self.text.encode(list(captions)))
        return self.student.text(text.to(self.device), keep.to(self.device))


def token_grid(student: Student, vae: Vae, height: int, width: int) -> Grid:
    """Rows and columns of tokens of an image; raises ConfigError where its sides are no multiples of a token's."""
    latent, patch = (vae.latent_shape(height)[1], vae.latent_shape(width)[2]), student.config.patch
    if latent[0] % patch or latent[1] % patch:
        px = patch * height // latent[0]
        raise ConfigError(f"an image of {height} x {width} px: both sides must be multiples of {px} px")
    return Grid(latent[0] // patch, latent[1] // patch)


def decode_tokens(student: Student, vae: Vae, tokens: Float[Tensor, "b n t"], grid: Grid) -> Images:
    """Pixels of drawn tokens."""
    pixels = vae.decode(unpatchify(tokens, student.config.patch, grid.rows, grid.columns))
    return pixels.cpu().numpy()


def contact_sheet(images: Images, columns: int, least_px: int = 96) -> bytes:
    """Images side by side as PNG, small ones enlarged without smoothing."""
    factor = max(1, least_px // images.shape[1])
    images = images.repeat(factor, axis=1).repeat(factor, axis=2)
    missing = -len(images) % columns
    images = np.concatenate([images, np.full((missing, *images.shape[1:]), 255, np.uint8)])
    rows = [np.concatenate(list(images[first : first + columns]), axis=1) for first in range(0, len(images), columns)]
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate(rows)).save(buffer, format="PNG")
    return buffer.getvalue()
