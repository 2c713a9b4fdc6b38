"""Moving average of the weights: what is sampled from."""

import torch
from torch import nn

from lightgen.training.ranks import local


@torch.no_grad()
def update_average(average: nn.Module, student: nn.Module, decay: float, step: int) -> None:
    """average = decay * average + (1 - decay) * weights; early steps use a shorter memory, (1 + n) / (10 + n)."""
    decay = min(decay, (1 + step) / (10 + step))
    kept, new = ([local(parameter.detach()) for parameter in model.parameters()] for model in (average, student))
    torch._foreach_lerp_(kept, new, 1 - decay)  # pyright: ignore[reportPrivateImportUsage]
