"""The training loop: steps, EMA, log, checkpoints and resume. The objective decides what is minimised."""

import copy
import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

import torch
from pydantic import Field
from torch import Tensor, nn

from lightgen.config import RUN, Config
from lightgen.errors import ConfigError, TrainingDiverged
from lightgen.model.precision import TrainingPrecision, float32_products, mixed_precision
from lightgen.model.student import Student
from lightgen.progress import SILENT, Progress
from lightgen.seeds import derive_seed
from lightgen.training import state as states
from lightgen.training.allocator import kept_memory
from lightgen.training.checkpoint import Saver
from lightgen.training.data import Batch
from lightgen.training.ema import update_ema
from lightgen.training.frozen import assert_gradients, freeze_untrained
from lightgen.training.later import read_later
from lightgen.training.launch import LaunchConfig
from lightgen.training.loader import BatchSplit, Loader
from lightgen.training.numerics import deterministic_mode
from lightgen.training.objectives import Metrics, Microbatch, Objective
from lightgen.training.optimizer import OptimizerConfig, learning_rate, make_optimizers, step_if
from lightgen.training.ranks import World, full_tensor, parallelize, set_gradient_sync
from lightgen.training.speed import SpeedMeter
from lightgen.training.state import TrainState

_log = logging.getLogger(__name__)

DrawSamples = Callable[[int, Student], Path]  # draws images at a step and returns the path of the picture
SPIKE_AFTER = 100  # steps before a norm of the gradient can be called a spike


class LoopConfig(Config):
    """Length of a run, and how often it logs, saves and draws samples."""

    steps: int = Field(default=100_000, ge=0, description="updates of the weights")
    optimizer: OptimizerConfig = Field(default=OptimizerConfig(), description="and its learning rate")
    ema: float = Field(default=0.9999, ge=0, lt=1, description="decay a step of the moving average of the weights")
    log_every: int = Field(default=20, gt=0, description="steps", json_schema_extra=RUN)
    checkpoint_every: int = Field(default=1000, gt=0, description="steps", json_schema_extra=RUN)
    sample_every: int = Field(
        default=0, ge=0, description="steps between sample grids; 0: only the last", json_schema_extra=RUN
    )
    spike: float = Field(
        default=20.0, gt=1, description="a step is skipped whose gradient is so many times its running (geometric) mean"
    )
    max_bad_steps: int = Field(default=10, ge=1, description="skipped steps in a row before going back to a checkpoint")
    max_rollbacks: int = Field(default=3, ge=0, description="times the run goes back before giving up")
    precision: TrainingPrecision = Field(
        default="auto",
        description="of matrix products; weights stay float32. auto: bf16 where the device multiplies it natively; "
        "tf32: float32 whose products on a GPU read 10 bits of the mantissa",
    )
    deterministic: bool = Field(
        default=True,
        description="kernels whose sums have one order: exact on a CPU; a GPU has none for the gradient of attention",
        json_schema_extra=RUN,
    )
    threads: int | None = Field(
        default=None,
        gt=0,
        description="threads of the CPU; None: torch's choice. They move the last bits of a result",
        json_schema_extra=RUN,
    )


class LossModule(nn.Module):
    """Student and objective as one module: DDP and FSDP2 act on the forward pass of a module."""

    def __init__(self, student: Student, objective: Objective) -> None:
        super().__init__()
        self.student, self.objective = student, objective

    def forward(self, batch: Batch, microbatch: Microbatch) -> tuple[Tensor, Metrics]:
        return self.objective.loss(self.student, batch, microbatch)


@dataclass
class Trainer:
    """What a run is made of. `module` is the loss, spread over the processes.

    `parameters` are the student's, `averages` the EMA's: listed once, for a walk through all modules takes a
    thousandth of a step of the demo.
    """

    state: TrainState
    module: nn.Module
    objective: Objective
    config: LoopConfig
    seed: int
    split: BatchSplit
    parameters: list[nn.Parameter]
    averages: list[nn.Parameter]

    @property
    def device(self) -> torch.device:
        """Where the student is."""
        return self.state.student.null_text.device


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
    draw_samples: DrawSamples | None = None,
) -> TrainState:
    """Train `student` in place until `config.steps`; resumes from the newest sealed checkpoint in `folder`.

    `run_id` names settings, data and seed: a checkpoint of another run raises ResumeMismatch. Every process of `world`
    calls this with the same arguments and returns the same state, with full weights under FSDP2 too. Rank 0 calls
    `draw_samples` with the EMA every `sample_every` steps. Raises ConfigError, TrainingDiverged, TrainingFailed.
    """
    world, launch = world or World(), launch or LaunchConfig()
    device = student.null_text.device.type
    exact = deterministic_mode(config.deterministic, config.threads)
    with exact, float32_products(config.precision), kept_memory(device):
        trainer = make_trainer(student, objective, config, seed, world, launch)
        trainer.split.check(objective.batch_size)
        states.resume(trainer.state, folder, run_id, world)
        saver = Saver(folder, run_id, world, world.broadcast(token_hex(4)))
        pin = trainer.device.type == "cuda"
        with saver, Loader(objective.features, objective.schedule(), trainer.split, launch.workers, pin=pin) as loader:
            _run_steps(trainer, loader, saver, folder, progress if world.is_main else SILENT, draw_samples)
        world.barrier()
    return states.with_full_weights(trainer.state)


def make_trainer(
    student: Student, objective: Objective, config: LoopConfig, seed: int, world: World, launch: LaunchConfig
) -> Trainer:
    """EMA, optimizers and the parallel module around fresh weights. Raises ConfigError."""
    if launch.strategy == "fsdp" and world.size > 1 and config.optimizer.kind == "muon":
        raise ConfigError("optimizer.kind muon needs whole matrices; take launch.strategy: ddp, or adamw")
    ema = copy.deepcopy(student).requires_grad_(False)
    freeze_untrained(student, objective)
    student.recompute = launch.recompute
    if launch.compile:
        student.compile_pieces()
    module = parallelize(LossModule(student, objective), world, launch.strategy, student.blocks())
    if launch.strategy == "fsdp":
        parallelize(ema, world, "fsdp", ema.blocks())
    state = TrainState(student, ema, make_optimizers(student, config.optimizer))
    split, parameters, averages = BatchSplit(world, launch.accumulate), [*student.parameters()], [*ema.parameters()]
    return Trainer(state, module, objective, config, seed, split, parameters, averages)


def _run_steps(
    trainer: Trainer,
    loader: Loader,
    saver: Saver,
    folder: Path,
    progress: Progress,
    draw_samples: DrawSamples | None,
) -> None:
    state, config, world = trainer.state, trainer.config, trainer.split.world
    meter = SpeedMeter(trainer.objective, state.student, trainer.device, world.size)
    progress.start("train", config.steps, "steps", state.step)
    while state.step < config.steps:
        began = time.monotonic()
        loss = train_step(trainer, loader.at(state.step + state.skipped_batches))
        state.seconds += time.monotonic() - began
        saver.check()
        progress.advance(1, meter.note(loss, time.monotonic() - began))
        if state.bad_steps >= config.max_bad_steps:
            saver.wait()
            _roll_back(trainer, folder, saver.run)
        elif state.step % config.checkpoint_every == 0 or state.step == config.steps:
            saver.save(state.step, *states.rank_share(state, world))
        if draw_samples and config.sample_every and state.step % config.sample_every == 0:
            drawn_with = states.full_student(state.ema)
            if world.is_main:
                progress.picture(draw_samples(state.step, drawn_with))
    if 0 < state.bad_steps == state.step:
        raise TrainingDiverged(_advice(state, config))
    progress.finish()


def train_step(trainer: Trainer, batches: list[Batch]) -> float:
    """One update from this rank's microbatches; returns the loss over all ranks.

    A step is skipped and counted if loss or gradient norm is not finite, or the norm is a spike. The device decides
    that itself: a GPU takes the step while this process still waits for the two numbers.
    """
    state, config, world = trainer.state, trainer.config, trainer.split.world
    torch.manual_seed(derive_seed(trainer.seed, "dropout", state.step, world.rank))
    lr = learning_rate(config.optimizer, state.step, config.steps)
    for optimizer in state.optimizers:
        optimizer.zero_grad(set_to_none=True)
        for group in optimizer.param_groups:
            group["lr"] = lr
    means = world.all_reduce_mean(_backward(trainer, batches))
    assert_gradients(state.student, trainer.parameters)
    norm = full_tensor(nn.utils.get_total_norm([each.grad for each in trainer.parameters if each.grad is not None]))
    state.step += 1
    usable = means[0].isfinite() & norm.isfinite() & (norm <= _largest_norm(state, config))
    read = read_later(torch.stack([means[0], norm, usable]))
    step_if(usable, state.optimizers, divisor=(norm / config.optimizer.clip).clamp(min=1))
    loss, grad_norm, stepped = read()
    if not stepped:
        _count_skipped(state, loss, grad_norm)
        return loss
    state.bad_steps = 0
    state.log_grad_norm += (math.log(max(grad_norm, 1e-30)) - state.log_grad_norm) / min(state.step, SPIKE_AFTER)
    update_ema(trainer.averages, trainer.parameters, config.ema, state.step)
    state.loss_window.append(loss)
    if state.step % config.log_every == 0 or state.step == config.steps:
        _log_step(state, lr, grad_norm, means[1:])
    return loss


def _backward(trainer: Trainer, batches: list[Batch]) -> Tensor:
    """Gradients of all microbatches of this rank; returns its means of loss and metrics, not yet reduced over ranks."""
    means: list[Tensor] = []
    state, split = trainer.state, trainer.split
    *_, last = split.local_indices()
    for index, batch in zip(split.local_indices(), batches, strict=True):
        microbatch = Microbatch(state.step + state.skipped_batches, index, split.microbatches)
        set_gradient_sync(trainer.module, index == last)
        with mixed_precision(trainer.config.precision, trainer.device.type):
            loss, metrics = trainer.module(batch.to(trainer.device), microbatch)
        (loss / len(batches)).backward()
        state.metric_names = list(metrics)
        means.append(torch.stack([loss.detach().float(), *(metric.float() for metric in metrics.values())]))
    return torch.stack(means).mean(0)


def _log_step(state: TrainState, lr: float, grad_norm: float, metrics: Tensor) -> None:
    """One line of the log: mean loss since the line before, the rest of this step."""
    named = dict(zip(state.metric_names, metrics.tolist(), strict=True))
    loss = sum(state.loss_window) / len(state.loss_window)
    state.log.append(json.dumps({"step": state.step, "loss": loss, "lr": lr, "grad_norm": grad_norm, **named}))
    state.loss_window.clear()


def _largest_norm(state: TrainState, config: LoopConfig) -> float:
    """Norm of the gradient above which it is a spike. It is the same in all processes."""
    return config.spike * math.exp(state.log_grad_norm) if state.step > SPIKE_AFTER else math.inf


def _count_skipped(state: TrainState, loss: float, grad_norm: float) -> None:
    reason = "loss or gradient is not finite"
    if math.isfinite(loss) and math.isfinite(grad_norm):
        reason = f"gradient of {grad_norm:.3g}, usually {math.exp(state.log_grad_norm):.3g}"
    state.bad_steps += 1
    state.log.append(json.dumps({"step": state.step, "skipped": reason}))
    _log.warning("step %d: %s, skipped (%d in a row)", state.step, reason, state.bad_steps)


def _roll_back(trainer: Trainer, folder: Path, run_id: str) -> None:
    """Go back to the newest checkpoint and on with other data: the same data would end the same way."""
    state, config, bad = trainer.state, trainer.config, trainer.state.step
    rollbacks, skipped, log = state.rollbacks + 1, state.skipped_batches, state.log
    advice = _advice(state, config)
    if rollbacks > config.max_rollbacks or not states.resume(state, folder, run_id, trainer.split.world):
        raise TrainingDiverged(advice)
    state.rollbacks, state.bad_steps = rollbacks, 0
    state.skipped_batches = skipped + bad - state.step
    state.log = [*log, json.dumps({"step": bad, "rolled_back_to": state.step})]
    _log.warning("step %d: back to the checkpoint of step %d, on with other data", bad, state.step)


def _advice(state: TrainState, config: LoopConfig) -> str:
    return (
        f"{state.bad_steps} steps in a row had no usable gradient, until step {state.step}. "
        f"Lower optimizer.lr (now {config.optimizer.lr:g}) or raise optimizer.warmup_steps, then start again"
    )
