"""Muon: momentum whose update is made orthogonal, one Newton-Schulz iteration for all matrices of one shape.

Keller Jordan, "Muon: an optimizer for hidden layers in neural networks" (2024); scaled to AdamW's size of update as in
Moonshot AI, "Muon is scalable for LLM training" (2025), so that both share one learning rate. At the demo's size a step
of it is worth about three of AdamW.
"""

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

# Quintic whose repeated application drives every singular value in (0, 1] towards 1, quickly rather than exactly.
QUINTIC = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5
ADAMW_RMS = 0.2  # root mean square of AdamW's update, to which a matrix's update is scaled


class Muon(torch.optim.Optimizer):
    """For the hidden matrices of a network only; every parameter must have two dimensions."""

    def __init__(self, params: Iterable[Tensor], lr: float, momentum: float = 0.95, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        wrong = [tuple(p.shape) for group in self.param_groups for p in group["params"] if p.ndim != 2]
        if wrong:
            raise ValueError(f"Muon takes matrices only, not shapes {wrong[:3]}")

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Nesterov momentum, orthogonalised; parameters without a gradient are left alone."""
        for group in self.param_groups:
            moving = [parameter for parameter in group["params"] if parameter.grad is not None]
            updates = [self._momentum(parameter, group["momentum"]) for parameter in moving]
            for index, update in _orthogonal(updates):
                scale = ADAMW_RMS * math.sqrt(max(update.shape))
                moving[index].mul_(1 - group["lr"] * group["weight_decay"])
                moving[index].add_(update, alpha=-group["lr"] * scale)

    def _momentum(self, parameter: Tensor, momentum: float) -> Tensor:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        gradient: Tensor = parameter.grad  # pyright: ignore[reportAssignmentType]
        state["momentum"].lerp_(gradient, 1 - momentum)
        return gradient.lerp(state["momentum"], momentum)


def _orthogonal(updates: list[Tensor]) -> Iterable[tuple[int, Tensor]]:
    """(index, orthogonalised matrix), matrices of one shape together; tall ones are worked on lying down."""
    shapes: dict[tuple[int, int], list[int]] = defaultdict(list)
    for index, update in enumerate(updates):
        rows, columns = sorted(update.shape)
        shapes[rows, columns].append(index)
    for members in shapes.values():
        lying = [updates[i] if updates[i].shape[0] <= updates[i].shape[1] else updates[i].mT for i in members]
        for i, matrix in zip(members, newton_schulz(torch.stack(lying)), strict=True):
            yield i, (matrix if updates[i].shape[0] <= updates[i].shape[1] else matrix.mT).to(updates[i].dtype)


def newton_schulz(matrices: Float[Tensor, "k m n"]) -> Float[Tensor, "k m n"]:
    """Nearly U V^T of each matrix U S V^T, in bfloat16: singular values end between about 0.7 and 1.2. m <= n."""
    a, b, c = QUINTIC
    x = (matrices / (torch.linalg.matrix_norm(matrices, keepdim=True) + 1e-7)).bfloat16()
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x
