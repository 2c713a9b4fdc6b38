"""A training run of a stage, in this process or in many: both stages that train go through `run_training`."""

import logging
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from lightgen.model.restore import CheckpointConfig
from lightgen.model.student import Student
from lightgen.progress import SILENT, Progress
from lightgen.settings import torchrun_place
from lightgen.stages.checkpoints import checkpoint_output
from lightgen.storage.build import ShardOutput
from lightgen.storage.store import open_store
from lightgen.training.launch import LaunchConfig
from lightgen.training.loop import LoopConfig, train
from lightgen.training.objectives import Objective
from lightgen.training.ranks import World, joined
from lightgen.training.speed import summary
from lightgen.training.torchrun import Printed, die_with, run_processes
from schemas.ref import ArtifactRef

Draw = Callable[[int, Student], bytes]


class TrainingRun(BaseModel):
    """Everything a process needs to take part: stage, parents, settings, and where checkpoints lie."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: Literal["pretrain", "align"]
    store: str
    parents: list[ArtifactRef]
    config: dict[str, Any]
    seed: int
    folder: Path
    run_id: str
    starter: int


@dataclass(frozen=True)
class Prepared:
    """What a stage makes of its parents and settings before the first step."""

    student: Student
    objective: Objective
    draw: Draw
    settings: CheckpointConfig
    loop: LoopConfig
    launch: LaunchConfig


def run_training(prepared: Prepared, run: TrainingRun, progress: Progress) -> ShardOutput:
    """Train to the end and hand over the one shard of a CHECKPOINT version.

    Many processes leave a sealed checkpoint of the last step; this one then takes it up, as after any interruption.
    """
    if prepared.launch.size > 1:
        run.folder.mkdir(parents=True, exist_ok=True)
        # Machines share the folder, but each has its own starter.
        job = run.folder / f"job-{platform.node()}-{run.starter}.json"
        job.write_text(run.model_dump_json(indent=1))
        run_processes(__name__, job, prepared.launch, run.run_id, progress)
    alone = prepared.launch.model_copy(update={"processes": 1, "nodes": 1, "rendezvous": None})
    done = _train(prepared, run, World(), alone, progress if prepared.launch.size == 1 else SILENT)
    speed = summary(done, prepared.objective, prepared.launch.size)
    settings = prepared.settings.model_copy(update={"steps": prepared.settings.steps + done.step})
    return checkpoint_output(done, settings, prepared.draw(done.step, done.average), speed)


def _train(prepared: Prepared, run: TrainingRun, world: World, launch: LaunchConfig, progress: Progress):  # noqa: ANN202
    return train(
        prepared.student, prepared.objective, prepared.loop, seed=run.seed, folder=run.folder, run_id=run.run_id,
        world=world, launch=launch, progress=progress, on_sample=prepared.draw,
    )  # fmt: skip


def take_part(job: Path) -> None:
    """One process of many, started by torchrun."""
    from lightgen.stages import align, pretrain

    run = TrainingRun.model_validate_json(job.read_text())
    die_with(run.starter)
    place = torchrun_place()
    assert place is not None, "this process was not started by torchrun"
    world = World(*place)
    logging.basicConfig(level=logging.INFO if world.leads else logging.WARNING, format="%(message)s")
    prepare = {"pretrain": pretrain.prepare, "align": align.prepare}[run.stage]
    prepared = prepare(run, open_store(run.store), local_rank=world.local_rank)
    with joined(world, prepared.student.null_text.device.type):
        _train(prepared, run, world, prepared.launch, Printed() if world.leads else SILENT)


if __name__ == "__main__":
    take_part(Path(sys.argv[1]))
