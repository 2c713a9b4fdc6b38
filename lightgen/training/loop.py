"""The one training loop: steps, averages, logs, seals and resumes; what is minimised is the objective's affair."""

import copy
import json
import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from lightgen.errors import ConfigError, TrainingDiverged
from lightgen.model.student import Student
from lightgen.progress import SILENT, Progress
from lightgen.seeds import derive_seed
from lightgen.settings import deterministic_matrix_products
from lightgen.training import state
from lightgen.training.checkpoint import Saver
from lightgen.training.data import Batch
from lightgen.training.ema import update_average
from lightgen.training.launch import LaunchConfig
from lightgen.training.loader import Loader, Share
from lightgen.training.objectives import Figures, Objective, Place
from lightgen.training.optimizer import OptimizerConfig, learning_rate, make_optimizers
from lightgen.training.ranks import World, spread, synchronise, whole
from lightgen.training.speed import Meter
from lightgen.training.state import Run

_log = logging.getLogger(__name__)

OnSample = Callable[[int, Student], Path]
SPIKE_AFTER = 100  # steps before a norm of the gradient can be called a spike


class LoopConfig(BaseModel):
    """Length and rhythm of a run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(default=100_000, ge=0)
    optimizer: OptimizerConfig = OptimizerConfig()
    ema: float = Field(default=0.9999, ge=0, lt=1)
    log_every: int = Field(default=20, gt=0, description="steps")
    checkpoint_every: int = Field(default=1000, gt=0, description="steps")
    sample_every: int = Field(default=0, ge=0, description="steps between sample grids; 0: only the last")
    spike: float = Field(
        default=20.0, gt=1, description="a step is skipped whose gradient is so many times its running (geometric) mean"
    )
    max_bad_steps: int = Field(default=10, ge=1, description="skipped steps in a row before going back to a checkpoint")
    max_rollbacks: int = Field(default=3, ge=0, description="times the run goes back before giving up")
    precision: Literal["auto", "bf16", "fp32"] = Field(
        default="auto",
        description="of matrix products; weights stay float32. auto: bf16 where the device multiplies it natively",
    )
    deterministic: bool = Field(
        default=True, description="kernels whose sums have one order; without them a GPU is faster, and never exact"
    )
    threads: int | None = Field(
        default=None, gt=0, description="threads of the CPU; None: torch's choice. Part of the result's bits"
    )


class Loss(nn.Module):
    """Student and objective as one module, for DDP and FSDP2 act on a module's forward pass."""

    def __init__(self, student: Student, objective: Objective) -> None:
        super().__init__()
        self.student, self.objective = student, objective

    def forward(self, batch: Batch, place: Place) -> tuple[Tensor, Figures]:
        return self.objective.loss(self.student, batch, place)


@dataclass
class Job:
    """What a run is made of; `module` is the loss as it is spread over the processes."""

    run: Run
    module: nn.Module
    objective: Objective
    config: LoopConfig
    seed: int
    share: Share

    @property
    def device(self) -> torch.device:
        """Where the student is."""
        return self.run.student.null_text.device


def train(
    student: Student,
    objective: Objective,
    config: LoopConfig,
    *,
    seed: int,
    folder: Path,
    run_id: str,
    world: World | None = None,
    launch: LaunchConfig | None = None,
    progress: Progress = SILENT,
    on_sample: OnSample | None = None,
) -> Run:
    """Train `student` in place until `config.steps`; resumes from the newest sealed checkpoint in `folder`.

    `run_id` names settings, data and seed: a checkpoint of another run raises ResumeMismatch. Every process of `world`
    calls this with the same arguments and returns the same run; under FSDP2 its tensors are whole again. `on_sample`
    draws with the average every `sample_every` steps, in the first process, and says where the picture is.
    """
    world, launch = world or World(), launch or LaunchConfig()
    with exact(config):
        job = make_job(student, objective, config, seed, world, launch)
        job.share.check(objective.batch_size)
        state.resume(job.run, folder, run_id, world)
        saver = Saver(folder, run_id, world, world.agree(token_hex(4)))
        pin = job.device.type == "cuda"
        with saver, Loader(objective.features, objective.schedule(), job.share, launch.workers, pin=pin) as loader:
            _steps(job, loader, saver, folder, progress if world.leads else SILENT, on_sample)
        world.meet()
    return state.put_together(job.run)


def make_job(
    student: Student, objective: Objective, config: LoopConfig, seed: int, world: World, launch: LaunchConfig
) -> Job:
    """Average, optimizers and the spread module around fresh weights."""
    if launch.strategy == "fsdp" and world.size > 1 and config.optimizer.kind == "muon":
        raise ConfigError("optimizer.kind muon needs whole matrices; take launch.strategy: ddp, or adamw")
    average = copy.deepcopy(student).requires_grad_(False)
    freeze_untrained(student, objective)
    student.recompute = launch.recompute
    if launch.compile:
        student.compile_blocks()
    module = spread(Loss(student, objective), world, launch.strategy, student.blocks())
    if launch.strategy == "fsdp":
        spread(average, world, "fsdp", average.blocks())
    run = Run(student, average, make_optimizers(student, config.optimizer))
    return Job(run, module, objective, config, seed, Share(world, launch.accumulate))


def freeze_untrained(student: Student, objective: Objective) -> None:
    """Have gradients computed for exactly the parameters that `objective` trains.

    DDP waits in every backward pass for the gradient of each parameter that may have one, and fails in the second step
    where one never comes. A frozen parameter is not waited for, costs neither memory nor traffic, and, having no
    gradient, is left alone by optimizer and weight decay with any number of processes. `find_unused_parameters` would
    walk the whole graph in every step to find out what is known before the first. Frozen parameters stay in the
    optimizer's groups, so that the numbers under which a checkpoint keeps the others do not depend on the objective.
    """
    untrained = {id(parameter) for parameter in objective.untrained(student)}
    for parameter in student.parameters():
        parameter.requires_grad_(id(parameter) not in untrained)


def assert_gradients(student: Student) -> None:
    """Every parameter that is not frozen must have a gradient: one process then finds what many would wait for."""
    missing = [name for name, value in student.named_parameters() if value.requires_grad and value.grad is None]
    assert not missing, f"no gradient came to {', '.join(missing)}: the objective's `untrained` must name them"


def _steps(
    job: Job, loader: Loader, saver: Saver, folder: Path, progress: Progress, on_sample: OnSample | None
) -> None:
    run, config, world = job.run, job.config, job.share.world
    meter = Meter(job.objective, run.student, job.device, world.size)
    progress.start("train", config.steps, "steps", run.step)
    while run.step < config.steps:
        began = time.monotonic()
        value = train_step(job, loader.at(run.step + run.skipped_ahead))
        run.seconds += time.monotonic() - began
        saver.check()
        progress.advance(1, meter.note(value, time.monotonic() - began))
        if run.bad_steps >= config.max_bad_steps:
            saver.wait()
            _roll_back(job, folder, saver.run)
        elif run.step % config.checkpoint_every == 0 or run.step == config.steps:
            saver.save(run.step, *state.share_of(run, world))
        if on_sample and config.sample_every and run.step % config.sample_every == 0:
            drawn = state.whole_student(run.average)
            if world.leads:
                progress.picture(on_sample(run.step, drawn))
    progress.finish()


def train_step(job: Job, pieces: list[Batch]) -> float:
    """One update; a step whose loss or gradient is not finite, or a spike, is skipped and counted."""
    run, config, world = job.run, job.config, job.share.world
    torch.manual_seed(derive_seed(job.seed, "dropout", run.step, world.rank))
    rate = learning_rate(config.optimizer, run.step, config.steps)
    for optimizer in run.optimizers:
        optimizer.zero_grad(set_to_none=True)
        for group in optimizer.param_groups:
            group["lr"] = rate
    figures = world.mean(_backward(job, pieces))
    assert_gradients(run.student)
    norm = whole(nn.utils.clip_grad_norm_(run.student.parameters(), config.optimizer.clip))
    value, size = torch.stack([figures[0], norm]).tolist()
    run.step += 1
    if why := _unusable(run, config, value, size):
        return _skip(run, value, why)
    for optimizer in run.optimizers:
        optimizer.step()
    run.bad_steps = 0
    run.log_norm += (math.log(max(size, 1e-30)) - run.log_norm) / min(run.step, SPIKE_AFTER)
    update_average(run.average, run.student, config.ema, run.step)
    run.window.append(value)
    if run.step % config.log_every == 0 or run.step == config.steps:
        named = dict(zip(run.names, figures[1:].tolist(), strict=True))
        row = {"step": run.step, "loss": sum(run.window) / len(run.window), "lr": rate, "grad_norm": size, **named}
        run.rows.append(json.dumps(row))
        run.window.clear()
    return value


def _backward(job: Job, pieces: list[Batch]) -> Tensor:
    """Gradients of all pieces of this process; returns the means of loss and figures, still this process's own."""
    means: list[Tensor] = []
    *_, last = job.share.numbers()
    for number, piece in zip(job.share.numbers(), pieces, strict=True):
        place = Place(job.run.step + job.run.skipped_ahead, number, job.share.pieces)
        synchronise(job.module, number == last)
        with mixed_precision(job.config.precision, job.device.type):
            loss, figures = job.module(piece.to(job.device), place)
        (loss / len(pieces)).backward()
        job.run.names = list(figures)
        means.append(torch.stack([loss.detach().float(), *(figure.float() for figure in figures.values())]))
    return torch.stack(means).mean(0)


def _unusable(run: Run, config: LoopConfig, loss: float, norm: float) -> str:
    """Why a step must not change the weights, or nothing. Loss and norm are the same in all processes."""
    if not (math.isfinite(loss) and math.isfinite(norm)):
        return "loss or gradient is not finite"
    usual = math.exp(run.log_norm)
    if run.step > SPIKE_AFTER and norm > config.spike * usual:
        return f"gradient of {norm:.3g}, usually {usual:.3g}"
    return ""


def _skip(run: Run, value: float, why: str) -> float:
    run.bad_steps += 1
    run.rows.append(json.dumps({"step": run.step, "skipped": why}))
    _log.warning("step %d: %s, skipped (%d in a row)", run.step, why, run.bad_steps)
    return value


def _roll_back(job: Job, folder: Path, run_id: str) -> None:
    """Back to the newest checkpoint, on to other data: the same ones would end the same way."""
    run, config, bad = job.run, job.config, job.run.step
    rollbacks, ahead, log = run.rollbacks + 1, run.skipped_ahead, run.rows
    advice = (
        f"{run.bad_steps} steps in a row had no usable gradient, until step {bad}. "
        f"Lower optimizer.lr (now {config.optimizer.lr:g}) or raise optimizer.warmup_steps, then start again"
    )
    if rollbacks > config.max_rollbacks or not state.resume(run, folder, run_id, job.share.world):
        raise TrainingDiverged(advice)
    run.rollbacks, run.bad_steps = rollbacks, 0
    run.skipped_ahead = ahead + bad - run.step
    run.rows = [*log, json.dumps({"step": bad, "rolled_back_to": run.step})]
    _log.warning("step %d: back to the checkpoint of step %d, on with other data", bad, run.step)


def mixed_precision(precision: str, device: str) -> torch.autocast:
    """Autocast to bfloat16, or none, for a forward pass on `device` ("cpu", "cuda")."""
    native = torch.cuda.is_bf16_supported() if device == "cuda" else torch.cpu._is_avx512_bf16_supported()
    return torch.autocast(device, torch.bfloat16, enabled=precision == "bf16" or (precision == "auto" and native))


@contextmanager
def exact(config: LoopConfig) -> Iterator[None]:
    """Deterministic kernels and a fixed number of threads while training."""
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    mode: Any = torch.utils.deterministic
    filled = mode.fill_uninitialized_memory
    deterministic_matrix_products()
    # Deterministic mode writes NaN into all fresh memory, a tenth of a step; nothing here reads it before writing.
    mode.fill_uninitialized_memory = False
    torch.use_deterministic_algorithms(config.deterministic, warn_only=True)
    torch.set_num_threads(config.threads or before[0])
    try:
        yield
    finally:
        mode.fill_uninitialized_memory = filled
        torch.use_deterministic_algorithms(before[1], warn_only=True)
        torch.set_num_threads(before[0])
