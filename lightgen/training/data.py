"""Batches of features: which rows a step reads is a function of (seed, step), so resume needs no loader state."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lightgen.seeds import derive_seed
from lightgen.storage.feature_codec import latents_from_table, text_from_table


@dataclass(frozen=True)
class Batch:
    """What one step sees: latents and the padded text with its mask."""

    latents: Float[Tensor, "b c h w"]
    text: Float[Tensor, "b l t"]
    keep: Bool[Tensor, "b l"]

    def to(self, device: torch.device) -> "Batch":
        """The batch on `device`."""
        return Batch(*(part.to(device, non_blocking=True) for part in (self.latents, self.text, self.keep)))


@dataclass(frozen=True)
class FeatureSet:
    """Features in memory: latent moments as float16, the texts one after the other as float32."""

    mean: Float[Tensor, "n c h w"]
    std: Float[Tensor, "n c h w"] | None
    text: Float[Tensor, "words t"]
    text_start: np.ndarray
    text_tokens: np.ndarray

    def __len__(self) -> int:
        return len(self.mean)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, rows, columns."""
        channels, rows, columns = self.mean.shape[1:]
        return channels, rows, columns

    @property
    def longest_text(self) -> int:
        """Tokens of the longest text: every batch is padded to it, so that shapes do not change."""
        return int(self.text_tokens.max())

    def batch(self, rows: np.ndarray, generator: torch.Generator) -> Batch:
        """The given rows; latents are drawn from their posterior where it has a spread."""
        index = torch.from_numpy(rows)
        latents = self.mean[index].float()
        if self.std is not None:
            latents = latents + self.std[index].float() * torch.randn(latents.shape, generator=generator)
        text, keep = pad_text(self.text, self.text_start[rows], self.text_tokens[rows], self.longest_text)
        return Batch(latents, text, keep)


def read_features(table: pa.Table) -> FeatureSet:
    """The rows of a FEATURES version in memory; a spread of zero everywhere is dropped."""
    mean, std = latents_from_table(table)
    flat, count = text_from_table(table)
    start = np.concatenate([[0], np.cumsum(count)[:-1]])
    return FeatureSet(mean, std if bool(std.any()) else None, flat, start, count)


def memory_features(latents: Float[Tensor, "n c h w"], texts: list[Float[Tensor, "l t"]]) -> FeatureSet:
    """Features that were never stored: exact latents and their texts."""
    count = np.array([len(text) for text in texts])
    start = np.concatenate([[0], np.cumsum(count)[:-1]])
    return FeatureSet(latents, None, torch.cat(texts), start, count)


def pad_text(
    flat: Float[Tensor, "words t"], start: np.ndarray, count: np.ndarray, length: int
) -> tuple[Float[Tensor, "b l t"], Bool[Tensor, "b l"]]:
    """Rows of `flat` as a padded batch. An empty text keeps one padding vector, for attention needs a key."""
    place = np.arange(length)
    keep = place < np.maximum(count, 1)[:, None]
    index = np.where(place < count[:, None], start[:, None] + place, 0)
    padded = flat[torch.from_numpy(index)].float()
    padded = padded * torch.from_numpy(place < count[:, None]).unsqueeze(-1)
    return padded, torch.from_numpy(keep)


def stack_text(texts: list[Float[Tensor, "l t"]]) -> tuple[Float[Tensor, "b l t"], Bool[Tensor, "b l"]]:
    """Texts of different lengths as a padded batch with its mask."""
    count = np.array([len(text) for text in texts])
    start = np.concatenate([[0], np.cumsum(count)[:-1]])
    flat = torch.cat([*texts, torch.zeros(1, texts[0].shape[1])]).float()
    return pad_text(flat, start, count, max(1, int(count.max())))


def rows_of_step(seed: int, step: int, rows: int, batch_size: int) -> np.ndarray:
    """Rows that step `step` (from 0) reads: the epochs' permutations one after the other, cut into batches."""
    first = step * batch_size
    places = np.arange(first, first + batch_size)
    epochs = places // rows
    chosen = [_permutation(seed, int(epoch), rows)[places[epochs == epoch] % rows] for epoch in np.unique(epochs)]
    return np.concatenate(chosen)


def step_generator(seed: int, step: int, purpose: str) -> torch.Generator:
    """The random stream of one step: noise, masks and times depend on (seed, step), never on what ran before."""
    return torch.Generator().manual_seed(derive_seed(seed, purpose, step))


@lru_cache(maxsize=2)
def _permutation(seed: int, epoch: int, rows: int) -> np.ndarray:
    return np.random.default_rng(derive_seed(seed, "epoch", epoch)).permutation(rows)
