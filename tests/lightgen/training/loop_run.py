"""A tiny run of the loop, and objectives to which something happens: death, gradients without a number, spikes."""

import hashlib
import os
import signal
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from lightgen.model.student import Student
from lightgen.training.data import Batch
from lightgen.training.loop import LoopConfig, train
from lightgen.training.objectives import MaskedDiffusion, Metrics, Microbatch, Objective
from lightgen.training.optimizer import OptimizerConfig
from lightgen.training.state import TrainState
from tests.forks import Forked

STEPS = 12
CONFIG = LoopConfig(
    steps=STEPS, optimizer=OptimizerConfig(lr=3e-3, warmup_steps=3, decay="cosine"), ema=0.9, log_every=5,
    checkpoint_every=4, threads=1,
)  # fmt: skip


@dataclass(frozen=True)
class Wrapped(MaskedDiffusion):
    """An objective to which something happens at some steps."""

    steps: frozenset[int] = frozenset()

    @classmethod
    def around(cls, inner: MaskedDiffusion, *steps: int) -> Self:
        given: dict[str, Any] = {field.name: getattr(inner, field.name) for field in fields(inner)}
        given["steps"] = frozenset(steps)
        return cls(**given)


class Dies(Wrapped):
    """Kills its process at a step, as the kernel would."""

    def loss(self, student: Student, batch: Batch, microbatch: Microbatch) -> tuple[Tensor, Metrics]:
        if microbatch.step in self.steps:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().loss(student, batch, microbatch)


class Poisoned(Wrapped):
    """Has no finite loss at some steps."""

    def loss(self, student: Student, batch: Batch, microbatch: Microbatch) -> tuple[Tensor, Metrics]:
        loss, metrics = super().loss(student, batch, microbatch)
        return (loss * float("nan") if microbatch.step in self.steps else loss), metrics


class Spiked(Wrapped):
    """Has a loss a thousand times too steep at some steps."""

    def loss(self, student: Student, batch: Batch, microbatch: Microbatch) -> tuple[Tensor, Metrics]:
        loss, metrics = super().loss(student, batch, microbatch)
        return (loss * 1000 if microbatch.step in self.steps else loss), metrics


def trained(
    objective: Objective, student: Student, folder: Path, config: LoopConfig = CONFIG, run_id: str = "r"
) -> TrainState:
    return train(student, objective, config, seed=11, folder=folder, run_id=run_id)


def digest_of(run: TrainState) -> str:
    parts = [*run.student.state_dict().values(), *run.ema.state_dict().values()]
    for optimizer in run.optimizers:
        state = optimizer.state_dict()["state"]
        parts += [state[number][name] for number in sorted(state) for name in sorted(state[number])]
    return hashlib.sha256(b"".join(part.numpy().tobytes() for part in parts)).hexdigest()


def killed(objective: MaskedDiffusion, student: Student, folder: Path, at: int, config: LoopConfig = CONFIG) -> None:
    process = Forked(target=trained, args=(Dies.around(objective, at), student, folder, config))
    torch.set_num_threads(1)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
