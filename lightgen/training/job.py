"""A training run of a stage, in this process or in many: both stages that train go through `run_training`."""

import gc
import importlib
import logging
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict

from lightgen.config import Config
from lightgen.engines.build import build
from lightgen.engines.lifetime import die_with
from lightgen.engines.lines import Printed
from lightgen.generators.restore import CheckpointConfig
from lightgen.model.sampling import SampleConfig
from lightgen.model.student import Student
from lightgen.progress import SILENT, Progress
from lightgen.settings import local_device, torchrun_place
from lightgen.storage.plans import Stage
from lightgen.storage.shards import ShardOutput
from lightgen.storage.store import Store, open_store
from lightgen.training.content import checkpoint_output
from lightgen.training.launch import LaunchConfig
from lightgen.training.loop import LoopConfig, train
from lightgen.training.objectives import Objective
from lightgen.training.ranks import World, joined
from lightgen.training.speed import summary
from lightgen.training.state import Run
from lightgen.training.torchrun import refusals_told, run_processes
from lightgen.work import Context, MakeShard, Needs, Work, Worker
from schemas.ref import ArtifactRef

PROCESS = "lightgen.training.job"  # the module that every process of torchrun runs
Draw = Callable[[int, Student], Path]


class TrainingRun(BaseModel):
    """Everything a process needs to take part: who prepares, parents, settings, and where checkpoints lie."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str
    store: str
    parents: list[ArtifactRef]
    config: dict[str, Any]
    seed: int
    folder: Path
    run_id: str
    starter: int
    device: str


@dataclass(frozen=True)
class Prepared:
    """What a stage makes of its parents and settings before the first step."""

    student: Student
    objective: Objective
    draw: Draw
    settings: CheckpointConfig
    loop: LoopConfig
    launch: LaunchConfig
    samples: SampleConfig


# The run, its store and the device of this process.
Prepare = Callable[[TrainingRun, Store, str], Prepared]


def build_checkpoint(
    stage: Stage, config: Config, parents: list[ArtifactRef], context: Context, open: str
) -> ArtifactRef:
    """The sealed checkpoint of a stage that trains."""
    plan = stage.plan(config, context.seed, parents, 1)
    needs = Needs(sort="job", gpu=True, unit="tensors")
    return build(Work.of(plan, config, parents, context, open, needs), context)


def training_shard(work: Work, worker: Worker, prepare: Prepare) -> MakeShard:
    """Makes the one shard of a checkpoint: trains here, or in the processes that the settings' `launch` asks for."""
    run = TrainingRun(
        stage=work.plan.stage, store=work.store, parents=list(work.parents), config=work.config, seed=work.plan.seed,
        folder=worker.store.scratch(work.plan), run_id=work.plan.version, starter=os.getpid(), device=worker.device,
    )  # fmt: skip
    launch = LaunchConfig.model_validate(work.config["launch"])

    def make_shard(_: int) -> ShardOutput:
        if launch.size == 1:
            return run_training(prepare(run, worker.store, run.device), run, worker.progress)
        _run_in_processes(run, launch, worker.progress)
        # What they leave is taken up as after any interruption; prepared only now, for until here the GPU was theirs.
        return run_training(prepare(run, worker.store, run.device), run, SILENT)

    return make_shard


def run_training(prepared: Prepared, run: TrainingRun, progress: Progress) -> ShardOutput:
    """Train to the end in this process and hand over the one shard of a CHECKPOINT version."""
    alone = prepared.launch.model_copy(update={"processes": 1, "nodes": 1, "rendezvous": None})
    done = _train(prepared, run, World(), alone, progress)
    speed = summary(done, prepared.objective, prepared.launch.size)
    settings = prepared.settings.model_copy(update={"steps": prepared.settings.steps + done.step})
    samples = prepared.draw(done.step, done.average).read_bytes()
    return checkpoint_output(done, settings, prepared.samples, samples, speed)


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
        prepared = prepare(run, open_store(run.store), local_device(run.device, world.local_rank))
        with joined(world, prepared.student.null_text.device.type):
            _train(prepared, run, world, prepared.launch, Printed() if world.leads else SILENT)


if __name__ == "__main__":
    take_part(Path(sys.argv[1]))
