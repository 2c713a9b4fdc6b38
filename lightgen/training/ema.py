"""Exponential moving average (EMA) of the weights: images are drawn with it."""

import torch
from torch import nn

from lightgen.training.ranks import to_local


@torch.no_grad()
def update_ema(ema: nn.Module, student: nn.Module, decay: float, step: int) -> None:
    """ema = decay * ema + (1 - decay) * weights; at early steps n the decay is at most (1 + n) / (10 + n)."""
    decay = min(decay, (1 + step) / (10 + step))
    kept, new = ([to_local(parameter.detach()) for parameter in model.parameters()] for model in (ema, student))
    torch._foreach_lerp_(kept, new, 1 - decay)  # pyright: ignore[reportPrivateImportUsage]
