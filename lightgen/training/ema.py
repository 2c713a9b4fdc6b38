"""Moving average of the weights: what is sampled from."""

import torch
from torch import nn


@torch.no_grad()
def update_average(average: nn.Module, student: nn.Module, decay: float, step: int) -> None:
    """average = decay * average + (1 - decay) * weights; early steps use a shorter memory, (1 + n) / (10 + n)."""
    decay = min(decay, (1 + step) / (10 + step))
    torch._foreach_lerp_(list(average.parameters()), list(student.parameters()), 1 - decay)  # pyright: ignore[reportPrivateImportUsage]
