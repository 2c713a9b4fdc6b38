"""AdamW with the paper's weight-decay groups, Muon for the matrices of the blocks, and the learning rate of a step."""

import math
from collections import defaultdict
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field, model_validator
from torch import Tensor

from lightgen.config import Config
from lightgen.model.student import Student
from lightgen.training.muon import Muon


class OptimizerConfig(Config):
    """The optimizer and its schedule; defaults: model_facts 2.1, with the paper's learning rate."""

    kind: Literal["adamw", "muon"] = Field(
        default="adamw", description="muon: for the matrices of the blocks, AdamW for everything else"
    )
    lr: float = Field(default=1e-4, gt=0, description="peak, absolute: never multiplied by the batch")
    warmup_steps: int = Field(default=100, ge=0, description="of a linear warm-up")
    decay: Literal["constant", "cosine", "linear"] = Field(
        default="constant", description="of the learning rate after the warm-up"
    )
    decay_from: float = Field(default=0.0, ge=0, lt=1, description="share of the steps before the decay begins")
    final_lr: float = Field(default=0.0, ge=0, description="share of the peak that is left at the last step")
    betas: tuple[float, float] = Field(default=(0.9, 0.95), description="of AdamW")
    weight_decay: float = Field(default=0.02, ge=0, description="none on biases, 1-D parameters and the head")
    clip: float = Field(default=3.0, gt=0, description="largest global norm of the gradient")

    @model_validator(mode="after")
    def _valid(self) -> "OptimizerConfig":
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must lie in [0, 1), not {self.betas}")
        return self


def learning_rate(config: OptimizerConfig, step: int, steps: int) -> float:
    """Learning rate of step `step` (from 0) of `steps`: linear warm-up, then constant or decaying."""
    warm = min(1.0, (step + 1) / max(1, config.warmup_steps))
    begin = max(config.warmup_steps, config.decay_from * steps)
    if config.decay == "constant" or step < begin:
        return config.lr * warm
    share = min(1.0, (step - begin) / max(1.0, steps - begin))
    shape = 0.5 * (1 + math.cos(math.pi * share)) if config.decay == "cosine" else 1 - share
    return config.lr * warm * (config.final_lr + (1 - config.final_lr) * shape)


def make_optimizers(student: Student, config: OptimizerConfig) -> list[torch.optim.Optimizer]:
    """AdamW in two groups, with and without weight decay; with `muon`, Muon for the hidden matrices before it."""
    hidden: dict[tuple[int, float], list[Tensor]] = defaultdict(list)
    plain: dict[float, list[Tensor]] = {config.weight_decay: [], 0.0: []}
    for name, parameter in student.named_parameters():
        # At the paper's rate for DPO no step is as large as half an ulp of a bfloat16 weight: nothing would move.
        assert parameter.dtype == torch.float32, f"{name} is {parameter.dtype}: weights are kept in float32"
        exempt = parameter.ndim < 2 or name.endswith("bias") or name.startswith("head.")
        decay = 0.0 if exempt else config.weight_decay
        if config.kind == "muon" and is_hidden_matrix(name, parameter):
            hidden[stacked_matrices(name), decay].append(parameter)
        else:
            plain[decay].append(parameter)
    groups = [{"params": members, "weight_decay": decay} for decay, members in plain.items()]
    adamw = torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=True)
    if not hidden:
        return [adamw]
    stacks = [{"params": each, "parts": parts, "weight_decay": decay} for (parts, decay), each in hidden.items()]
    return [Muon(stacks, lr=config.lr), adamw]


def step_if(usable: Bool[Tensor, ""], optimizers: list[torch.optim.Optimizer], divisor: Float[Tensor, ""]) -> None:
    """Step with gradients over `divisor` if `usable`, else leave weights and moments alone.

    Both are numbers on the device, which nobody here reads: they go where `torch.amp.GradScaler` puts its own. AdamW
    looks at them in its kernel. Muon reads them, and so waits on a GPU.
    """
    unusable = (~usable).float()
    for optimizer in optimizers:
        scaled: Any = optimizer
        scaled.grad_scale, scaled.found_inf = divisor, unusable
        optimizer.step()


def is_hidden_matrix(name: str, parameter: Tensor) -> bool:
    """Whether a parameter is a matrix from hidden vectors to hidden vectors inside a block, which Muon is made for.

    Modulations of the head are not: they start at zero and act on scales, not on a space of features.
    """
    inside = any(part in name for part in ("encoder.", "decoder.", "late.", "blocks."))
    return inside and parameter.ndim == 2 and "modulation" not in name


def stacked_matrices(name: str) -> int:
    """How many matrices the weight `name` holds: attention makes queries, keys and values with one product."""
    return 3 if name.endswith(".qkv.weight") else 2 if name.endswith(".key_value.weight") else 1
