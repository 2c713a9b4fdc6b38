"""A tiny training run as one rank sees it, whoever started the rank: pytest itself, its pool, or torchrun."""

import copy
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

from torch import Tensor

from lightgen.model.precision import TrainingPrecision, mixed_precision
from lightgen.model.student import Student
from lightgen.training import loop
from lightgen.training.data import Batch, Winners
from lightgen.training.launch import LaunchConfig, Strategy
from lightgen.training.loop import LoopConfig, train
from lightgen.training.objectives import MaskedDiffusion, Metrics, Microbatch, Objective
from lightgen.training.optimizer import OptimizerConfig
from lightgen.training.preference import LiveReference, PairErrorEstimator, Preference, cache_reference
from lightgen.training.ranks import World
from tests.lightgen.training.tiny_run import tiny_features, tiny_pairs, tiny_student

LOOP = LoopConfig(
    steps=9, optimizer=OptimizerConfig(lr=3e-3, warmup_steps=3), ema=0.9, log_every=3, threads=1, precision="fp32",
)  # fmt: skip
BATCH = 8
ObjectiveName = Literal["pretrain", "sft", "dpo", "dpo, cached reference"]


@dataclass(frozen=True)
class TinyRun:
    """Settings of a run; `dies_at`: steps before which rank 1 dies of SIGKILL, one a start."""

    folder: Path
    objective: ObjectiveName = "pretrain"
    strategy: Strategy = "ddp"
    accumulate: int = 1
    steps: int = LOOP.steps
    checkpoint_every: int = LOOP.checkpoint_every
    dropout: float = 0.0
    dies_at: tuple[int, ...] = ()
    precision: TrainingPrecision = "fp32"
    ratios: int = 1
    student: dict[str, Any] = field(default_factory=dict)
    masks: dict[str, float] = field(default_factory=dict)


def train_tiny(world: World, settings: TinyRun, start: int = 0) -> dict[str, Any]:
    """What the run comes to: weights, EMA and log, the same in every rank."""
    student = tiny_student(settings.dropout, **settings.student)
    objective = make_objective(student, settings)
    if world.rank == 1 and start < len(settings.dies_at):
        objective = _dying(objective, settings.dies_at[start])
    launch = LaunchConfig(strategy=settings.strategy, accumulate=settings.accumulate)
    changes = {name: getattr(settings, name) for name in ("steps", "checkpoint_every", "precision")}
    config = LOOP.model_copy(update=changes)
    run = train(student, objective, config, seed=11, folder=settings.folder, run_id="r", world=world, launch=launch)
    model, ema = (
        {name: value.tolist() for name, value in each.state_dict().items()} for each in (run.student, run.ema)
    )
    return {"model": model, "ema": ema, "log": run.log}


def train_with_nothing_frozen(world: World, settings: TinyRun) -> dict[str, Any]:
    """`train_tiny` with the fault put back that DDP waits for gradients which never come."""
    with nothing_frozen():
        return train_tiny(world, settings)


@contextmanager
def nothing_frozen() -> Iterator[None]:
    """Have every parameter require a gradient, whether or not the objective trains it, and notice nothing."""
    with patch.object(loop, "freeze_untrained"), patch.object(loop, "assert_gradients"):
        yield


def make_objective(student: Student, settings: TinyRun) -> Objective:
    """The objective by its name, over features or pairs in memory."""
    masks = MaskedDiffusion.masks.model_copy(update=settings.masks)
    if settings.objective == "pretrain":
        return MaskedDiffusion(tiny_features(), BATCH, copies=2, seed=11, masks=masks, ratios=settings.ratios)
    pairs = tiny_pairs(24)
    if settings.objective == "sft":
        return MaskedDiffusion(Winners(pairs), BATCH, 2, 11, bound=False, masks=masks, ratios=settings.ratios)
    frozen = copy.deepcopy(student).requires_grad_(False)
    estimator = PairErrorEstimator(copies=2, seed=11, masks=masks, draws=2)
    live = settings.objective == "dpo"
    with mixed_precision(settings.precision, "cpu"):
        reference = LiveReference(frozen) if live else cache_reference(frozen, pairs, estimator, BATCH)
    return Preference(pairs, reference, estimator, BATCH, beta=5.0, ratios=settings.ratios)


def _dying(objective: Objective, at: int) -> Objective:
    """The objective, whose process dies of SIGKILL in a step."""
    assert isinstance(objective, MaskedDiffusion | Preference)
    kind: Any = type(objective)

    class Dying(kind):
        def loss(self, student: Student, batch: Batch, microbatch: Microbatch) -> tuple[Tensor, Metrics]:
            if microbatch.step == at:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().loss(student, batch, microbatch)

    return Dying(**{each.name: getattr(objective, each.name) for each in fields(objective)})
