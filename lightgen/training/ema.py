"""Exponential moving average (EMA) of the weights: images are drawn with it."""

from collections.abc import Iterable

import torch
from torch import Tensor

from lightgen.training.ranks import to_local


@torch.no_grad()
def update_ema(averages: Iterable[Tensor], weights: Iterable[Tensor], decay: float, step: int) -> None:
    """ema = decay * ema + (1 - decay) * weights; at early steps n the decay is at most (1 + n) / (10 + n)."""
    decay = min(decay, (1 + step) / (10 + step))
    kept, new = ([to_local(tensor.detach()) for tensor in tensors] for tensors in (averages, weights))
    torch._foreach_lerp_(kept, new, 1 - decay)  # pyright: ignore[reportPrivateImportUsage]
