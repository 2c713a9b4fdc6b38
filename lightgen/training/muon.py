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
ITERATIONS = 4  # an even number
LONG = 2  # sides in this ratio are worth products of Gram matrices
LEAST_SIZE = 1e-14  # square of a norm below which a matrix counts as zero
ADAMW_RMS = 0.2  # root mean square of AdamW's update, to which a matrix's update is scaled


class Muon(torch.optim.Optimizer):
    """For the hidden matrices of a network only; every parameter must have two dimensions.

    A group's `parts` is the number of matrices of equal size that each of its parameters holds one below the other, as
    the projections to queries, keys and values do. Each is made orthogonal by itself.

    `grad_scale` and `found_inf` mean what they mean to torch's AdamW: a divisor of the gradients, and 1 for no step.
    """

    grad_scale: Tensor | None = None
    found_inf: Tensor | None = None

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "parts": 1})
        wrong = [tuple(p.shape) for group in self.param_groups for p in group["params"] if p.ndim != 2]
        if wrong:
            raise ValueError(f"Muon takes matrices only, not shapes {wrong[:3]}")

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Nesterov momentum, orthogonalised; parameters without a gradient are left alone."""
        if self.found_inf is not None and bool(self.found_inf):
            return
        alike: dict[tuple[torch.Size, float], list[tuple[Tensor, Tensor]]] = defaultdict(list)
        for group in self.param_groups:
            moving = [parameter for parameter in group["params"] if parameter.grad is not None]
            if moving:
                torch._foreach_mul_(moving, 1 - group["lr"] * group["weight_decay"])  # pyright: ignore[reportPrivateImportUsage]
            for parameter, update in zip(moving, self._updates(moving, group["momentum"]), strict=True):
                for matrix, change in zip(parameter.chunk(group["parts"]), update.chunk(group["parts"]), strict=True):
                    alike[matrix.shape, group["lr"]].append((matrix, change))
        for (shape, lr), members in alike.items():
            matrices, changes = zip(*members, strict=True)
            scale = ADAMW_RMS * math.sqrt(max(shape))
            steps = newton_schulz(stack_bfloat16(changes)).float().unbind()
            torch._foreach_add_(matrices, steps, alpha=-lr * scale)  # pyright: ignore[reportPrivateImportUsage]

    def _updates(self, moving: list[Tensor], momentum: float) -> list[Tensor]:
        """Nesterov's look ahead of the momenta, which take in the gradients."""
        if not moving:
            return []
        gradients: list[Any] = [parameter.grad for parameter in moving]
        if self.grad_scale is not None and float(self.grad_scale) != 1:
            torch._foreach_div_(gradients, self.grad_scale)  # pyright: ignore[reportPrivateImportUsage]
        for parameter in moving:
            if not self.state[parameter]:
                self.state[parameter]["momentum"] = torch.zeros_like(parameter)
        momenta = [self.state[parameter]["momentum"] for parameter in moving]
        torch._foreach_lerp_(momenta, gradients, 1 - momentum)  # pyright: ignore[reportPrivateImportUsage]
        return list(torch._foreach_lerp(gradients, momenta, momentum))  # pyright: ignore[reportPrivateImportUsage]


def stack_bfloat16(matrices: tuple[Float[Tensor, "m n"], ...]) -> Float[Tensor, "k m n"]:
    """Matrices of one shape as one tensor in bfloat16, copied once."""
    stacked = torch.empty(len(matrices), *matrices[0].shape, dtype=torch.bfloat16, device=matrices[0].device)
    torch._foreach_copy_(stacked.unbind(), matrices)  # pyright: ignore[reportPrivateImportUsage]
    return stacked


def newton_schulz(matrices: Float[Tensor, "k m n"]) -> Float[Tensor, "k m n"]:
    """Nearly U V^T of each matrix U S V^T, in bfloat16: singular values end between about 0.7 and 1.2.

    Singular values must begin in (0, 1], and the nearer to 1 the fewer iterations they take. The root of the norm of
    the Gram matrix bounds them, like the norm of the matrix, from above, but more closely: that saves an iteration.
    """
    x = matrices.bfloat16()
    if x.shape[1] > x.shape[2]:
        return newton_schulz(x.mT).mT.contiguous()
    gram = x @ x.mT
    size = torch.linalg.matrix_norm(gram, dtype=torch.float32, keepdim=True).clamp_(min=LEAST_SIZE)
    x, gram = x * size.rsqrt().bfloat16(), gram * size.reciprocal().bfloat16()
    twice = _twice_by_gram if x.shape[2] >= LONG * x.shape[1] else _twice
    for number in range(0, ITERATIONS, 2):
        x = twice(x, x @ x.mT if number else gram)
    return x


def _twice(x: Float[Tensor, "k m n"], gram: Float[Tensor, "k m m"]) -> Float[Tensor, "k m n"]:
    """Two iterations from x and its Gram matrix x x^T."""
    x = _quintic(gram) @ x
    return _quintic(x @ x.mT) @ x


def _twice_by_gram(x: Float[Tensor, "k m n"], gram: Float[Tensor, "k m m"]) -> Float[Tensor, "k m n"]:
    """The same with fewer products of the long side: the Gram matrix of the second iteration comes from the first's.

    A third iteration could not go on like this. The Gram matrix of a gradient of low rank has eigenvalues of nearly 0,
    which rounding makes negative, and each iteration multiplies them: after four of them the
    largest value of the result was 2 to 8, not 1.2.
    """
    first = _quintic(gram)
    return _quintic(first @ gram @ first) @ first @ x


def _quintic(gram: Float[Tensor, "k m m"]) -> Float[Tensor, "k m m"]:
    """What an iteration multiplies x by: a + b g + c g^2."""
    a, b, c = QUINTIC
    found = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
    found.diagonal(dim1=1, dim2=2).add_(a)
    return found
