"""The state of a training run: everything the next step depends on, and how a checkpoint stores and restores it."""

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from lightgen.model.student import Student
from lightgen.training import checkpoint
from lightgen.training.checkpoint import TensorGroups
from lightgen.training.ranks import World, full_tensor, is_sharded, shard_like

_log = logging.getLogger(__name__)
SCALARS = ("bad_steps", "loss_window", "skipped_batches", "rollbacks", "log_grad_norm", "seconds")


@dataclass
class TrainState:
    """State of a run in memory."""

    student: Student
    ema: Student
    optimizers: list[torch.optim.Optimizer]
    step: int = 0
    bad_steps: int = 0  # in a row
    skipped_batches: int = 0  # of data, left out by rollbacks
    rollbacks: int = 0
    log_grad_norm: float = 0.0  # running mean of the logarithm of the gradient's norm
    seconds: float = 0.0  # of the steps that led here: those undone by a death or a rollback do not count
    log: list[str] = field(default_factory=list)  # lines of log.jsonl
    loss_window: list[float] = field(default_factory=list)  # losses since the last line of the log
    metric_names: list[str] = field(default_factory=list)  # of the objective


def rank_share(state: TrainState, world: World) -> tuple[TensorGroups, dict[str, str]]:
    """What this rank writes of a checkpoint: a copy on the CPU of its share of full tensors; texts on rank 0 only."""
    groups: TensorGroups = {"model": {}, "ema": {}, "optimizer": {}}
    for number, (group, name, tensor) in enumerate(_tensors(state)):
        value = full_tensor(tensor.detach())
        if number % world.size == world.rank:
            groups[group][name] = value.to("cpu", copy=True)
    if not world.is_main:
        return groups, {}
    scalars = {name: getattr(state, name) for name in SCALARS}
    return groups, {"log.jsonl": "".join(row + "\n" for row in state.log), "state.json": json.dumps(scalars)}


def resume(state: TrainState, folder: Path, run_id: str, world: World) -> bool:
    """Load the newest sealed checkpoint of `folder`; False where there is none. Raises ResumeMismatch."""
    found = checkpoint.newest(folder, run_id) if world.is_main else None
    name = world.broadcast(found[1].name if found else "")
    if not name:
        return False
    newest = folder / name
    state.step = json.loads((newest / checkpoint.MANIFEST).read_text())["step"]
    for scalar, value in json.loads((newest / "state.json").read_text()).items():
        setattr(state, scalar, value)
    state.log = (newest / "log.jsonl").read_text().splitlines()
    for student, group in ((state.student, "model"), (state.ema, "ema")):
        _load_weights(student, checkpoint.load(newest, group))
    restore_optimizers(state.optimizers, checkpoint.load(newest, "optimizer"))
    _log.info("resumed at step %d from %s", state.step, newest.name)
    return True


def with_full_weights(state: TrainState) -> TrainState:
    """The state, with sharded weights gathered; all processes must call this."""
    state.student, state.ema = full_student(state.student), full_student(state.ema)
    return state


def full_student(student: Student) -> Student:
    """The student itself, or a copy with full tensors where its own are sharded; all processes must call this."""
    if not any(is_sharded(tensor) for tensor in student.parameters()):
        return student
    copied = Student(student.config).to(student.null_text.device)
    copied.load_state_dict({name: full_tensor(tensor.detach()) for name, tensor in student.state_dict().items()})
    return copied


def restore_optimizers(optimizers: list[torch.optim.Optimizer], tensors: dict[str, Tensor]) -> None:
    """Load the optimizer tensors of a checkpoint, named as `rank_share` names them."""
    for which, optimizer in enumerate(optimizers):
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        states: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            owner, number, name = key.split(".", 2)
            if int(owner) == which:
                states.setdefault(int(number), {})[name] = shard_like(parameters[int(number)], value)
        optimizer.load_state_dict({**optimizer.state_dict(), "state": states})


def _tensors(state: TrainState) -> Iterator[tuple[str, str, Tensor]]:
    """(group, name, tensor) of everything, in the same order in all processes.

    Optimizer tensors are named `<number of the optimizer>.<of the parameter>.<name>`.
    """
    for group, student in (("model", state.student), ("ema", state.ema)):
        yield from ((group, name, tensor) for name, tensor in student.state_dict().items())
    for which, optimizer in enumerate(state.optimizers):
        for number, values in optimizer.state_dict()["state"].items():
            yield from (("optimizer", f"{which}.{number}.{name}", value) for name, value in values.items())


@torch.no_grad()
def _load_weights(student: Student, tensors: dict[str, Tensor]) -> None:
    own = student.state_dict()
    student.load_state_dict({name: shard_like(own[name], tensor) for name, tensor in tensors.items()})
