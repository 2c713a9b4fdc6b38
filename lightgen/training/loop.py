"""The one training loop: steps, averages, logs, seals and resumes; what is minimised is the objective's affair."""

import copy
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from lightgen.errors import TrainingDiverged
from lightgen.model.student import Student
from lightgen.progress import SILENT, Progress
from lightgen.seeds import derive_seed
from lightgen.training import checkpoint
from lightgen.training.ema import update_average
from lightgen.training.objectives import Objective
from lightgen.training.optimizer import OptimizerConfig, learning_rate, make_optimizers

_log = logging.getLogger(__name__)

OnSample = Callable[[int, Student], object]


class LoopConfig(BaseModel):
    """Length and rhythm of a run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(default=100_000, ge=0)
    optimizer: OptimizerConfig = OptimizerConfig()
    ema: float = Field(default=0.9999, ge=0, lt=1)
    log_every: int = Field(default=20, gt=0, description="steps")
    checkpoint_every: int = Field(default=1000, gt=0, description="steps")
    sample_every: int = Field(default=0, ge=0, description="steps between sample grids; 0: only the last")
    max_bad_steps: int = Field(default=10, ge=1, description="steps in a row without a finite loss before giving up")
    precision: Literal["auto", "bf16", "fp32"] = Field(
        default="auto",
        description="of matrix products; weights stay float32. auto: bf16 where the device multiplies it natively",
    )
    threads: int | None = Field(
        default=None, gt=0, description="threads of the CPU; None: torch's choice. Part of the result's bits"
    )


@dataclass
class Run:
    """State of a run in memory."""

    student: Student
    average: Student
    optimizers: list[torch.optim.Optimizer]
    step: int = 0
    bad_steps: int = 0
    rows: list[str] = field(default_factory=list)
    window: list[float] = field(default_factory=list)


def train(
    student: Student,
    objective: Objective,
    config: LoopConfig,
    *,
    seed: int,
    folder: Path,
    run_id: str,
    progress: Progress = SILENT,
    on_sample: OnSample | None = None,
    average: Student | None = None,
) -> Run:
    """Train `student` in place until `config.steps`; resumes from the newest sealed checkpoint in `folder`.

    `run_id` names settings, data and seed: a checkpoint of another run raises ResumeMismatch. `average` starts
    the moving average, by default at the weights themselves.
    """
    average = copy.deepcopy(student) if average is None else average
    run = Run(student, average.requires_grad_(False), make_optimizers(student, config.optimizer))
    with _exact(config.threads):
        _resume(run, folder, run_id)
        progress.start("train", config.steps, "steps")
        progress.advance(run.step)
        while run.step < config.steps:
            loss = train_step(run, objective, config, seed)
            progress.advance(1, f"loss {loss:.4f}")
            if run.step % config.checkpoint_every == 0 or run.step == config.steps:
                _seal(run, folder, run_id)
            if on_sample and config.sample_every and run.step % config.sample_every == 0:
                on_sample(run.step, run.average)
        progress.finish()
    return run


def train_step(run: Run, objective: Objective, config: LoopConfig, seed: int) -> float:
    """One update; a step whose loss or gradient is not finite is skipped and counted."""
    torch.manual_seed(derive_seed(seed, "dropout", run.step))
    rate = learning_rate(config.optimizer, run.step, config.steps)
    for optimizer in run.optimizers:
        optimizer.zero_grad(set_to_none=True)
        for group in optimizer.param_groups:
            group["lr"] = rate
    with mixed_precision(config.precision, next(run.student.parameters()).device.type):
        loss, figures = objective.loss(run.student, run.step)
    loss.backward()
    norm = float(torch.nn.utils.clip_grad_norm_(run.student.parameters(), config.optimizer.clip))
    value = float(loss.detach())
    run.step += 1
    if not torch.isfinite(torch.tensor([value, norm])).all():
        _count_bad(run, config)
        return value
    for optimizer in run.optimizers:
        optimizer.step()
    run.bad_steps = 0
    update_average(run.average, run.student, config.ema, run.step)
    run.window.append(value)
    if run.step % config.log_every == 0 or run.step == config.steps:
        row = {"step": run.step, "loss": sum(run.window) / len(run.window), "lr": rate, "grad_norm": norm, **figures}
        run.rows.append(json.dumps(row))
        run.window.clear()
    return value


def _count_bad(run: Run, config: LoopConfig) -> None:
    run.bad_steps += 1
    run.rows.append(json.dumps({"step": run.step, "skipped": "loss or gradient is not finite"}))
    _log.warning("step %d: loss or gradient is not finite, skipped (%d in a row)", run.step, run.bad_steps)
    if run.bad_steps >= config.max_bad_steps:
        raise TrainingDiverged(
            f"the loss was not finite for {run.bad_steps} steps in a row, until step {run.step}. "
            f"Lower optimizer.lr (now {config.optimizer.lr:g}) or raise optimizer.warmup_steps, then start again"
        )


def _seal(run: Run, folder: Path, run_id: str) -> None:
    """Everything the next step depends on, sealed."""
    groups = {
        "model": dict(run.student.state_dict()),
        "ema": dict(run.average.state_dict()),
        "optimizer": _optimizer_tensors(run.optimizers),
    }
    state = {"bad_steps": run.bad_steps, "window": run.window}
    texts = {"log.jsonl": "".join(row + "\n" for row in run.rows), "state.json": json.dumps(state)}
    checkpoint.save(folder, run.step, run_id, groups, texts)


def _resume(run: Run, folder: Path, run_id: str) -> None:
    found = checkpoint.newest(folder, run_id)
    if found is None:
        return
    run.step, place = found
    run.student.load_state_dict(checkpoint.load(place, "model"))
    run.average.load_state_dict(checkpoint.load(place, "ema"))
    _restore_optimizers(run.optimizers, checkpoint.load(place, "optimizer"))
    state = json.loads((place / "state.json").read_text())
    run.bad_steps, run.window = state["bad_steps"], state["window"]
    run.rows = (place / "log.jsonl").read_text().splitlines()
    _log.info("resumed at step %d from %s", run.step, place.name)


def _optimizer_tensors(optimizers: list[torch.optim.Optimizer]) -> dict[str, Tensor]:
    """State of the optimizers as `<number of the optimizer>.<of the parameter>.<name>`."""
    return {
        f"{which}.{number}.{name}": value
        for which, optimizer in enumerate(optimizers)
        for number, values in optimizer.state_dict()["state"].items()
        for name, value in values.items()
    }


def _restore_optimizers(optimizers: list[torch.optim.Optimizer], tensors: dict[str, Tensor]) -> None:
    states: list[dict[int, dict[str, Tensor]]] = [{} for _ in optimizers]
    for key, value in tensors.items():
        which, number, name = key.split(".", 2)
        states[int(which)].setdefault(int(number), {})[name] = value
    for optimizer, state in zip(optimizers, states, strict=True):
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def mixed_precision(precision: str, device: str) -> torch.autocast:
    """Autocast to bfloat16, or none, for a forward pass on `device` ("cpu", "cuda")."""
    native = torch.cuda.is_bf16_supported() if device == "cuda" else torch.cpu._is_avx512_bf16_supported()
    return torch.autocast(device, torch.bfloat16, enabled=precision == "bf16" or (precision == "auto" and native))


@contextmanager
def _exact(threads: int | None) -> Iterator[None]:
    """Deterministic kernels and a fixed number of threads while training."""
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.set_num_threads(threads or before[0])
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[1], warn_only=True)
        torch.set_num_threads(before[0])
