"""Texts of different lengths as one padded batch with its mask."""

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor


def pad_text(
    flat: Float[Tensor, "words t"], start: np.ndarray, count: np.ndarray, length: int
) -> tuple[Float[Tensor, "b l t"], Bool[Tensor, "b l"]]:
    """Rows of `flat` as a padded batch. An empty text keeps one padding vector, for attention needs a key."""
    place = np.arange(length)
    keep = place < np.maximum(count, 1)[:, None]
    index = np.where(place < count[:, None], start[:, None] + place, 0)
    true = torch.from_numpy(place < count[:, None]).unsqueeze(-1)
    return torch.where(true, flat[torch.from_numpy(index)].float(), 0.0), torch.from_numpy(keep)


def stack_text(texts: list[Float[Tensor, "l t"]]) -> tuple[Float[Tensor, "b l t"], Bool[Tensor, "b l"]]:
    """Texts of different lengths as a padded batch with its mask."""
    count = np.array([len(text) for text in texts])
    start = np.concatenate([[0], np.cumsum(count)[:-1]])
    flat = torch.cat([*texts, torch.zeros(1, texts[0].shape[1])]).float()
    return pad_text(flat, start, count, max(1, int(count.max())))
