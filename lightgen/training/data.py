"""Batches of features: which rows a step reads is a function of (seed, step), so resume needs no loader state."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lightgen.model.padding import pad_text
from lightgen.seeds import derive_seed
from lightgen.training import keyed


@dataclass(frozen=True)
class Batch:
    """Some rows of features: who they are, the moments of their latents, the padded text with its mask.

    Latents of preference pairs have a leading axis of two, winner and loser.
    """

    ids: Int[Tensor, " b"]
    visits: Int[Tensor, " b"]
    mean: Float[Tensor, "b ... c h w"]
    std: Float[Tensor, "b ... c h w"] | None
    text: Float[Tensor, "b l t"]
    keep: Bool[Tensor, "b l"]

    def to(self, device: torch.device) -> "Batch":
        """The batch on `device`."""
        std = None if self.std is None else self.std.to(device, non_blocking=True)
        ids, visits, mean, text, keep = (
            part.to(device, non_blocking=True) for part in (self.ids, self.visits, self.mean, self.text, self.keep)
        )
        return Batch(ids, visits, mean, std, text, keep)

    def keys(self, seed: int) -> keyed.Keys:
        """One key for each (sample, visit of it): all randomness of training hangs on it."""
        return keyed.keys_for(self.ids, self.visits, seed)

    def latents(self, keys: keyed.Keys) -> Float[Tensor, "b ... c h w"]:
        """Latents in float32, drawn from their posterior where it has a spread."""
        mean = self.mean.float()
        if self.std is None:
            return mean
        noise = keyed.normal(keyed.stream(keys, "posterior"), mean[0].numel()).view_as(mean)
        return mean + self.std.float() * noise


class Features(Protocol):
    """Rows that training reads by their number, from memory or from disk."""

    def __len__(self) -> int: ...

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, rows, columns."""
        ...

    @property
    def text_dim(self) -> int:
        """Channels of the text."""
        ...

    @property
    def longest_text(self) -> int:
        """Tokens of the longest text: every batch is padded to it, so that shapes do not change."""
        ...

    def batch(self, rows: np.ndarray, visits: np.ndarray) -> Batch:
        """The given rows; `visits` says how often each was read before."""
        ...


@dataclass(frozen=True)
class FeatureSet:
    """Features in memory: latent moments as float16, the texts one after the other in their stored type."""

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
        """Channels, rows, columns."""
        channels, rows, columns = self.mean.shape[-3:]
        return channels, rows, columns

    @property
    def text_dim(self) -> int:
        """Channels of the text."""
        return self.text.shape[1]

    @property
    def longest_text(self) -> int:
        """Tokens of the longest text: every batch is padded to it, so that shapes do not change."""
        return int(self.text_tokens.max())

    def batch(self, rows: np.ndarray, visits: np.ndarray) -> Batch:
        """The given rows, copied."""
        index = torch.from_numpy(rows)
        text, keep = pad_text(self.text, self.text_start[rows], self.text_tokens[rows], self.longest_text)
        std = None if self.std is None else self.std[index]
        return Batch(self.ids[index], torch.from_numpy(visits), self.mean[index], std, text, keep)


@dataclass(frozen=True)
class Winners:
    """The first image of every pair, as features of single images."""

    pairs: Features

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, rows, columns."""
        return self.pairs.latent_shape

    @property
    def text_dim(self) -> int:
        """Channels of the text."""
        return self.pairs.text_dim

    @property
    def longest_text(self) -> int:
        """Tokens of the longest text: every batch is padded to it, so that shapes do not change."""
        return self.pairs.longest_text

    def batch(self, rows: np.ndarray, visits: np.ndarray) -> Batch:
        """The given rows, without their losers."""
        both = self.pairs.batch(rows, visits)
        return replace(both, mean=both.mean[:, 0], std=None if both.std is None else both.std[:, 0])


def number_ids(ids: Sequence[str]) -> Int[Tensor, " n"]:
    """Row ids (hex digests of content) as integers: their first 64 bits."""
    leading = b"".join(bytes.fromhex(row_id[:16]) for row_id in ids)
    return torch.from_numpy(np.frombuffer(leading, dtype=">i8").astype(np.int64))


def rows_of_step(seed: int, step: int, rows: int, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows that step `step` (from 0) reads, and their visits: permutations of the epochs, cut into batches."""
    first = step * batch_size
    places = np.arange(first, first + batch_size)
    epochs = places // rows
    chosen = [_permutation(seed, int(epoch), rows)[places[epochs == epoch] % rows] for epoch in np.unique(epochs)]
    return np.concatenate(chosen), epochs


def rows_of_epoch_step(seed: int, step: int, rows: int, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """As `rows_of_step`, but no batch spans two epochs: all its rows are at the same visit.

    What an epoch's last whole batch leaves over is not read in it; fewer rows than a batch are repeated to fill one.
    """
    per_epoch = max(1, rows // batch_size)
    epoch, place = divmod(step, per_epoch)
    order = np.resize(_permutation(seed, epoch, rows), per_epoch * batch_size)
    return order[place * batch_size : (place + 1) * batch_size], np.full(batch_size, epoch)


@lru_cache(maxsize=2)
def _permutation(seed: int, epoch: int, rows: int) -> np.ndarray:
    return np.random.default_rng(derive_seed(seed, "epoch", epoch)).permutation(rows)
