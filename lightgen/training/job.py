"""A training run of a stage, in this process or in many: both stages that train go through `run_training`."""

import gc
import importlib
import logging
import os
import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, Protocol

import torch
from pydantic import BaseModel, ConfigDict

import lightgen.model
import lightgen.training
from lightgen.generators import sampler
from lightgen.model.restore import CheckpointConfig
from lightgen.model.student import Student
from lightgen.progress import SILENT, Progress
from lightgen.settings import torchrun_place
from lightgen.storage.build import ShardOutput, build, make_plan
from lightgen.storage.store import Store, open_store
from lightgen.training import content
from lightgen.training.content import checkpoint_output
from lightgen.training.launch import LaunchConfig
from lightgen.training.loop import LoopConfig, train
from lightgen.training.objectives import Objective
from lightgen.training.ranks import World, joined
from lightgen.training.speed import summary
from lightgen.training.state import Run
from lightgen.training.torchrun import Printed, die_with, refusals_told, run_processes
from schemas.ref import ArtifactRef
from schemas.tensors import SCHEMA

PROCESS = "lightgen.training.job"  # the module that every process of torchrun runs
Draw = Callable[[int, Student], Path]


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


class Settings(Protocol):
    """Settings of a stage that trains."""

    @property
    def launch(self) -> LaunchConfig:
        """How the run is spread."""
        ...

    def content(self) -> BaseModel:
        """Without where and how it runs."""
        ...

    def model_dump(self, *, mode: str) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Prepared:
    """What a stage makes of its parents and settings before the first step."""

    student: Student
    objective: Objective
    draw: Draw
    settings: CheckpointConfig
    loop: LoopConfig
    launch: LaunchConfig


Prepare = Callable[[TrainingRun, Store, int], Prepared]


def build_checkpoint(
    stage: Literal["pretrain", "align"],
    prepare: Prepare,
    config: Settings,
    parents: list[ArtifactRef],
    modules: Sequence[ModuleType | str],
    store: Store,
    seed: int,
    progress: Progress,
) -> ArtifactRef:
    """The sealed checkpoint of a stage that trains; `modules` are its own, beside those of model and training."""
    ours = [lightgen.model, lightgen.training, content, sampler, PROCESS, *modules]
    plan = make_plan("checkpoint", stage, ours, config.content(), seed, parents, n_shards=1)
    run = TrainingRun(
        stage=stage, store=store.uri, parents=parents, config=config.model_dump(mode="json"), seed=seed,
        folder=store.scratch(plan), run_id=plan.version, starter=os.getpid(),
    )  # fmt: skip

    def make_shard(_: int) -> ShardOutput:
        if config.launch.size == 1:
            return run_training(prepare(run, store, 0), run, progress)
        _run_in_processes(run, config.launch, progress)
        # What they leave is taken up as after any interruption; prepared only now, for until here the GPU was theirs.
        return run_training(prepare(run, store, 0), run, SILENT)

    return build(store, plan, make_shard, SCHEMA, progress=progress, unit="tensors")


def run_training(prepared: Prepared, run: TrainingRun, progress: Progress) -> ShardOutput:
    """Train to the end in this process and hand over the one shard of a CHECKPOINT version."""
    alone = prepared.launch.model_copy(update={"processes": 1, "nodes": 1, "rendezvous": None})
    done = _train(prepared, run, World(), alone, progress)
    speed = summary(done, prepared.objective, prepared.launch.size)
    settings = prepared.settings.model_copy(update={"steps": prepared.settings.steps + done.step})
    samples = prepared.draw(done.step, done.average).read_bytes()
    return checkpoint_output(done, settings, samples, speed)


def _run_in_processes(run: TrainingRun, launch: LaunchConfig, progress: Progress) -> None:
    """Train to the end under torchrun: a sealed checkpoint of the last step is left in the run's folder."""
    run.folder.mkdir(parents=True, exist_ok=True)
    # Machines share the folder, but each has its own starter.
    job = run.folder / f"job-{platform.node()}-{run.starter}.json"
    job.write_text(run.model_dump_json(indent=1))
    # What a stage did before, such as asking the reference, must not take memory from the processes to come.
    gc.collect()
    torch.cuda.empty_cache()
    run_processes(PROCESS, job, launch, run.run_id, progress)


def _train(prepared: Prepared, run: TrainingRun, world: World, launch: LaunchConfig, progress: Progress) -> Run:
    return train(
        prepared.student, prepared.objective, prepared.loop, seed=run.seed, folder=run.folder, run_id=run.run_id,
        world=world, launch=launch, progress=progress, on_sample=prepared.draw,
    )  # fmt: skip


def take_part(job: Path) -> None:
    """One process of many, started by torchrun."""
    run = TrainingRun.model_validate_json(job.read_text())
    die_with(run.starter)
    place = torchrun_place()
    assert place is not None, "this process was not started by torchrun"
    world = World(*place)
    logging.basicConfig(level=logging.INFO if world.leads else logging.WARNING, format="%(message)s")
    # By its name, as whoever started this process wrote it: training knows no stage.
    prepare: Prepare = importlib.import_module(f"lightgen.stages.{run.stage}").prepare
    with refusals_told():
        prepared = prepare(run, open_store(run.store), world.local_rank)
        with joined(world, prepared.student.null_text.device.type):
            _train(prepared, run, world, prepared.launch, Printed() if world.leads else SILENT)


if __name__ == "__main__":
    take_part(Path(sys.argv[1]))
