"""A training job: the part that both training stages share, in this process or in many under torchrun."""

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
from lightgen.engines.lifetime import exit_with_parent
from lightgen.engines.lines import PrintedProgress
from lightgen.generators.restore import CheckpointConfig
from lightgen.model.sampling import SampleConfig
from lightgen.model.student import Student
from lightgen.progress import SILENT, Progress
from lightgen.settings import local_device, torchrun_place
from lightgen.storage.plans import Stage
from lightgen.storage.shards import ShardOutput
from lightgen.storage.store import Store, open_store
from lightgen.training.launch import LaunchConfig
from lightgen.training.loop import LoopConfig, train
from lightgen.training.objectives import Objective
from lightgen.training.output import SampleGrid, checkpoint_output
from lightgen.training.ranks import World, process_group
from lightgen.training.speed import summary
from lightgen.training.state import TrainState
from lightgen.training.torchrun import report_refusals, run_processes
from lightgen.work import Context, MakeShard, Needs, Work, Worker
from schemas.ref import ArtifactRef

RANK_MODULE = "lightgen.training.job"  # what torchrun runs in every process


class TrainingJob(BaseModel):
    """All that a process needs to take part: stage, parents, settings, and the folder of checkpoints in progress.

    `starter` is the process that started torchrun; the others exit when it is gone.
    """

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
class TrainingSetup:
    """What a stage prepares before the first step; `checkpoint` are the settings that the student is sealed with."""

    student: Student
    objective: Objective
    draw_samples: SampleGrid
    checkpoint: CheckpointConfig
    loop: LoopConfig
    launch: LaunchConfig
    samples: SampleConfig


# The job, its store and the device of this process.
Prepare = Callable[[TrainingJob, Store, str], TrainingSetup]


def build_checkpoint(
    stage: Stage, config: Config, parents: list[ArtifactRef], context: Context, open: str
) -> ArtifactRef:
    """The sealed checkpoint of a stage that trains."""
    plan = stage.plan(config, context.seed, parents, 1)
    machines = LaunchConfig.model_validate(config.model_dump()["launch"]).nodes
    needs = Needs(sort="job", gpu=True, unit="tensors", machines=machines)
    return build(Work.of(plan, config, parents, context, open, needs), context)


def job_of(work: Work, store: Store, device: str) -> TrainingJob:
    """The job of a stage that trains, started by this process."""
    return TrainingJob(
        stage=work.plan.stage, store=work.store, parents=list(work.parents), config=work.config, seed=work.plan.seed,
        folder=store.scratch(work.plan), run_id=work.plan.version, starter=os.getpid(), device=device,
    )  # fmt: skip


def training_shard(work: Work, worker: Worker, prepare: Prepare) -> MakeShard:
    """Makes the one shard of a checkpoint: trains here, or in the processes that the settings' `launch` asks for."""
    job = job_of(work, worker.store, worker.device)
    launch = LaunchConfig.model_validate(work.config["launch"])

    def make_shard(_: int) -> ShardOutput:
        if launch.size == 1:
            return train_to_output(prepare(job, worker.store, job.device), job, worker.progress)
        _train_in_processes(job, launch, worker.progress)
        # This process resumes from their last checkpoint. Until here it prepared nothing: the GPU was theirs.
        return train_to_output(prepare(job, worker.store, job.device), job, SILENT)

    return make_shard


def train_to_output(setup: TrainingSetup, job: TrainingJob, progress: Progress) -> ShardOutput:
    """Train to the end in this process; returns the one shard of a CHECKPOINT version."""
    alone = setup.launch.model_copy(update={"processes": 1, "nodes": 1, "rendezvous": None})
    state = _train(setup, job, World(), alone, progress)
    speed = summary(state, setup.objective, setup.launch.size)
    config = setup.checkpoint.model_copy(update={"steps": setup.checkpoint.steps + state.step})
    samples = setup.draw_samples.drawn(state.step, state.ema)
    return checkpoint_output(state, config, setup.samples, samples, speed)


def _train_in_processes(job: TrainingJob, launch: LaunchConfig, progress: Progress) -> None:
    """Train to the end under torchrun, which leaves a sealed checkpoint of the last step in the job's folder."""
    job.folder.mkdir(parents=True, exist_ok=True)
    # Machines share the folder, but each has a starter of its own.
    path = job.folder / f"job-{platform.node()}-{job.starter}.json"
    path.write_text(job.model_dump_json(indent=1))
    # What a stage did before, such as asking the reference, must not take memory from the processes to come.
    gc.collect()
    torch.cuda.empty_cache()
    run_processes(RANK_MODULE, path, launch, job.run_id, progress)


def _train(
    setup: TrainingSetup, job: TrainingJob, world: World, launch: LaunchConfig, progress: Progress
) -> TrainState:
    return train(
        setup.student, setup.objective, setup.loop, seed=job.seed, folder=job.folder, run_id=job.run_id,
        world=world, launch=launch, progress=progress, draw_samples=setup.draw_samples,
    )  # fmt: skip


def run_rank(path: Path) -> None:
    """Take part in the job at `path`, as one of the processes that torchrun started."""
    job = TrainingJob.model_validate_json(path.read_text())
    exit_with_parent(job.starter)
    place = torchrun_place()
    assert place is not None, "this process was not started by torchrun"
    world = World(*place)
    logging.basicConfig(level=logging.INFO if world.is_main else logging.WARNING, format="%(message)s")
    # The stage is found by its name, for training imports no stage.
    prepare: Prepare = importlib.import_module(f"lightgen.stages.{job.stage}").prepare
    with report_refusals():
        setup = prepare(job, open_store(job.store), local_device(job.device, world.local_rank))
        with process_group(world, setup.student.null_text.device.type):
            if world.is_main and setup.loop.sample_every:
                setup.draw_samples.load()
            _train(setup, job, world, setup.launch, PrintedProgress() if world.is_main else SILENT)


if __name__ == "__main__":
    run_rank(Path(sys.argv[1]))
