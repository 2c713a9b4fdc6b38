"""The state of a run: everything the next step depends on, shared out to be written and put together again."""

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from lightgen.model.student import Student
from lightgen.training import checkpoint
from lightgen.training.checkpoint import Groups
from lightgen.training.ranks import World, is_sharded, sharded_like, whole

_log = logging.getLogger(__name__)
SCALARS = ("bad_steps", "window", "skipped_ahead", "rollbacks", "log_norm", "seconds")


@dataclass
class Run:
    """State of a run in memory."""

    student: Student
    average: Student
    optimizers: list[torch.optim.Optimizer]
    step: int = 0
    bad_steps: int = 0
    skipped_ahead: int = 0  # batches of data left out by rollbacks
    rollbacks: int = 0
    log_norm: float = 0.0  # running mean of the logarithm of the gradient's norm
    seconds: float = 0.0  # of the steps that led here: those undone by a death or a rollback do not count
    rows: list[str] = field(default_factory=list)
    window: list[float] = field(default_factory=list)
    names: list[str] = field(default_factory=list)  # of the objective's figures


def share_of(run: Run, world: World) -> tuple[Groups, dict[str, str]]:
    """A copy on the CPU of the tensors that this process writes, and the texts that the first one does."""
    groups: Groups = {"model": {}, "ema": {}, "optimizer": {}}
    for number, (group, name, tensor) in enumerate(_tensors(run)):
        value = whole(tensor.detach())
        if number % world.size == world.rank:
            groups[group][name] = value.to("cpu", copy=True)
    if not world.leads:
        return groups, {}
    scalars = {name: getattr(run, name) for name in SCALARS}
    return groups, {"log.jsonl": "".join(row + "\n" for row in run.rows), "state.json": json.dumps(scalars)}


def resume(run: Run, folder: Path, run_id: str, world: World) -> bool:
    """Load the newest sealed checkpoint of `folder`; False where there is none."""
    found = checkpoint.newest(folder, run_id) if world.leads else None
    place = folder / world.agree(found[1].name if found else "")
    if place == folder:
        return False
    run.step = json.loads((place / checkpoint.MANIFEST).read_text())["step"]
    for name, value in json.loads((place / "state.json").read_text()).items():
        setattr(run, name, value)
    run.rows = (place / "log.jsonl").read_text().splitlines()
    for student, group in ((run.student, "model"), (run.average, "ema")):
        _fill(student, checkpoint.load(place, group))
    restore_optimizers(run.optimizers, checkpoint.load(place, "optimizer"))
    _log.info("resumed at step %d from %s", run.step, place.name)
    return True


def put_together(run: Run) -> Run:
    """The run with whole weights, where they are sharded."""
    run.student, run.average = whole_student(run.student), whole_student(run.average)
    return run


def whole_student(student: Student) -> Student:
    """The student itself, or, where its tensors are sharded, a copy with whole ones; all processes must ask."""
    if not any(is_sharded(tensor) for tensor in student.parameters()):
        return student
    copied = Student(student.config).to(student.null_text.device)
    copied.load_state_dict({name: whole(tensor.detach()) for name, tensor in student.state_dict().items()})
    return copied


def restore_optimizers(optimizers: list[torch.optim.Optimizer], tensors: dict[str, Tensor]) -> None:
    """Put the tensors of `share_of` back."""
    for which, optimizer in enumerate(optimizers):
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        states: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            owner, number, name = key.split(".", 2)
            if int(owner) == which:
                states.setdefault(int(number), {})[name] = sharded_like(parameters[int(number)], value)
        optimizer.load_state_dict({**optimizer.state_dict(), "state": states})


def _tensors(run: Run) -> Iterator[tuple[str, str, Tensor]]:
    """(group, name, tensor) of everything, in an order that all processes share.

    The optimizers' are named `<number of the optimizer>.<of the parameter>.<name>`.
    """
    for group, student in (("model", run.student), ("ema", run.average)):
        yield from ((group, name, tensor) for name, tensor in student.state_dict().items())
    for which, optimizer in enumerate(run.optimizers):
        for number, values in optimizer.state_dict()["state"].items():
            yield from (("optimizer", f"{which}.{number}.{name}", value) for name, value in values.items())


@torch.no_grad()
def _fill(student: Student, tensors: dict[str, Tensor]) -> None:
    own = student.state_dict()
    student.load_state_dict({name: sharded_like(own[name], tensor) for name, tensor in tensors.items()})
