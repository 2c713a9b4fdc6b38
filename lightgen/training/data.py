"""Batches of features, and the order in which training reads rows.

Which rows a step reads depends only on the seed and the step. A resumed run therefore needs no state of the loader.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lightgen.model.padding import pad_text
from lightgen.seeds import derive_seed
from lightgen.training import counter_rng

# Texts are cut to multiples of so many tokens: few shapes to compile for, and whole vectors of a processor.
TEXT_STEP = 16
# (rows, epochs) of a step: numbers of the rows to read, and for each the epoch it is read in.
Schedule = Callable[[int], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Batch:
    """A training batch: sample ids, epochs, VAE posterior moments, padded text embeddings and their mask.

    The latents of preference pairs have an axis of two after the first: winner and loser.
    """

    ids: Int[Tensor, " b"]
    epochs: Int[Tensor, " b"]
    mean: Float[Tensor, "b ... c h w"]
    std: Float[Tensor, "b ... c h w"] | None
    text: Float[Tensor, "b l t"]
    keep: Bool[Tensor, "b l"]

    def to(self, device: torch.device) -> "Batch":
        """The batch on `device`, cut to its longest text."""
        length = _text_length(self.keep)
        std = None if self.std is None else self.std.to(device, non_blocking=True)
        ids, epochs, mean, text, keep = (
            part.to(device, non_blocking=True) for part in (self.ids, self.epochs, self.mean, self.text, self.keep)
        )
        return Batch(ids, epochs, mean, std, text[:, :length], keep[:, :length])

    def keys(self, seed: int) -> counter_rng.Keys:
        """One key for each sample in its epoch: all random numbers drawn for the sample come from it."""
        return counter_rng.sample_keys(self.ids, self.epochs, seed)

    def latents(self, keys: counter_rng.Keys) -> Float[Tensor, "b ... c h w"]:
        """Latents in float32, drawn from their posterior; without `std`, its mean."""
        mean = self.mean.float()
        if self.std is None:
            return mean
        noise = counter_rng.normal(counter_rng.stream(keys, "posterior"), mean[0].numel()).view_as(mean)
        return mean + self.std.float() * noise


class Features(Protocol):
    """Rows of features, read by number, from memory or from disk."""

    def __len__(self) -> int: ...

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image's latents."""
        ...

    @property
    def text_dim(self) -> int:
        """Channels of a text embedding."""
        ...

    @property
    def longest_text(self) -> int:
        """Tokens of the longest text, to which every batch is padded."""
        ...

    @property
    def mean_text(self) -> float:
        """Tokens of a text on average."""
        ...

    def batch(self, rows: np.ndarray, epochs: np.ndarray) -> Batch:
        """The given rows, each read in the given epoch."""
        ...


@dataclass(frozen=True)
class FeaturesInMemory:
    """Features held in memory: latent moments as float16, all texts one after the other in their stored type."""

    ids: Int[Tensor, " n"]
    mean: Float[Tensor, "n ... c h w"]
    std: Float[Tensor, "n ... c h w"] | None
    text: Float[Tensor, "words t"]
    text_start: np.ndarray
    text_tokens: np.ndarray

    def __len__(self) -> int:
        return len(self.mean)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        channels, rows, columns = self.mean.shape[-3:]
        return channels, rows, columns

    @property
    def text_dim(self) -> int:
        return self.text.shape[1]

    @property
    def longest_text(self) -> int:
        return int(self.text_tokens.max())

    @property
    def mean_text(self) -> float:
        return float(self.text_tokens.mean())

    def batch(self, rows: np.ndarray, epochs: np.ndarray) -> Batch:
        """The given rows, copied."""
        index = torch.from_numpy(rows)
        text, keep = pad_text(self.text, self.text_start[rows], self.text_tokens[rows], self.longest_text)
        std = None if self.std is None else self.std[index]
        return Batch(self.ids[index], torch.from_numpy(epochs), self.mean[index], std, text, keep)


def _text_length(keep: Bool[Tensor, "b l"]) -> int:
    """Tokens of the longest text of a batch, in whole steps and at most all. The rest is padding of every text."""
    longest = int(keep.sum(1).max()) if len(keep) else 0
    return min(keep.shape[1], -(-longest // TEXT_STEP) * TEXT_STEP)


@dataclass(frozen=True)
class Winners:
    """The winning image of every pair, as features of single images."""

    pairs: Features

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        return self.pairs.latent_shape

    @property
    def text_dim(self) -> int:
        return self.pairs.text_dim

    @property
    def longest_text(self) -> int:
        return self.pairs.longest_text

    @property
    def mean_text(self) -> float:
        return self.pairs.mean_text

    def batch(self, rows: np.ndarray, epochs: np.ndarray) -> Batch:
        """The given rows, without their losers."""
        both = self.pairs.batch(rows, epochs)
        return replace(both, mean=both.mean[:, 0], std=None if both.std is None else both.std[:, 0])


def number_ids(ids: Sequence[str]) -> Int[Tensor, " n"]:
    """Row ids (hex digests of content) as integers: their first 64 bits."""
    leading = b"".join(bytes.fromhex(row_id[:16]) for row_id in ids)
    return torch.from_numpy(np.frombuffer(leading, dtype=">i8").astype(np.int64))


def rows_of_step(seed: int, step: int, rows: int, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and epochs of step `step` (from 0): one permutation an epoch, cut into batches.

    A batch at the end of an epoch takes its other rows from the next one.
    """
    first = step * batch_size
    positions = np.arange(first, first + batch_size)
    epochs = positions // rows
    chosen = [_permutation(seed, int(epoch), rows)[positions[epochs == epoch] % rows] for epoch in np.unique(epochs)]
    return np.concatenate(chosen), epochs


@lru_cache(maxsize=2)
def _permutation(seed: int, epoch: int, rows: int) -> np.ndarray:
    return np.random.default_rng(derive_seed(seed, "epoch", epoch)).permutation(rows)
