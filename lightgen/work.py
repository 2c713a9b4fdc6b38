"""What travels to workers: a picklable description of a stage's work, and what a worker is given to do it with."""

import hashlib
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import Field

from lightgen.config import Config
from lightgen.progress import SILENT, Progress
from lightgen.settings import Device
from lightgen.storage.reuse import LentShard
from lightgen.storage.shards import ShardOutput
from lightgen.storage.store import Store
from schemas.documents import Plan
from schemas.ref import ArtifactRef

MakeShard = Callable[[int], ShardOutput | LentShard]
Sort = Literal["map", "decision", "job"]


class RunConfig(Config):
    """How a recipe is run: the part `run` of a recipe. Nothing of it enters a name."""

    engine: Literal["serial", "processes", "ray"] = Field(
        default="serial",
        description="processes: a worker a GPU, else a core; ray: a worker a device of the cluster",
    )
    workers: int | Literal["auto"] = Field(default="auto", description="auto: as many as there are devices")
    device: Device = Field(default="auto", description="auto: the GPU where there is one")
    address: str | None = Field(default=None, description="of a Ray cluster, host:port; null starts one here")


@dataclass(frozen=True)
class Needs:
    """What a stage asks of the engine.

    A map sees one shard and knows no other; a decision sees ids and scores of all; a job trains. The shards of a
    decision or a job belong to one worker.
    """

    sort: Sort = "map"
    gpu: bool = False
    unit: str = "rows"
    total: int = 0
    """Units that all shards take in together; 0: not known."""


@dataclass(frozen=True)
class Context:
    """Where a stage works, and how; the last argument of every stage. `role` is what the run makes the version for."""

    store: Store
    seed: int = 0
    run: RunConfig = field(default_factory=RunConfig)
    progress: Progress = SILENT
    role: str = ""


@dataclass(frozen=True)
class Work:
    """All shards of one version. Crosses processes and machines; `open` names the function that makes shards."""

    plan: Plan
    config: dict[str, Any]
    parents: tuple[ArtifactRef, ...]
    store: str
    store_id: str
    open: str
    needs: Needs = Needs()
    max_reject_fraction: float = 1.0
    family: str = ""
    """Digest of all that decides a row beside what the row reads: versions of one family lend each other rows."""

    @staticmethod
    def of(
        plan: Plan,
        config: Config,
        parents: Sequence[ArtifactRef],
        context: Context,
        open: str,
        needs: Needs,
        family: str = "",
    ) -> "Work":
        """The work of a stage; a config that limits rejects does so by its `max_reject_fraction`."""
        limit = getattr(config, "max_reject_fraction", 1.0)
        store = context.store
        dumped = config.model_dump(mode="json")
        return Work(plan, dumped, tuple(parents), store.uri, store.mark.store_id, open, needs, limit, family)

    @property
    def revisions(self) -> str:
        """Digest of every revision and identity that the work hangs on: a worker with other code must not join."""
        return hashlib.sha256(self.plan.canonical()).hexdigest()


@dataclass(frozen=True)
class Worker:
    """What an engine gives to whoever makes shards: the device is given, never guessed."""

    store: Store
    device: str = "cpu"
    progress: Progress = SILENT


Opener = Callable[[Work, Worker], MakeShard]


def open_work(work: Work, worker: Worker) -> MakeShard:
    """The function that makes shards of `work`; models are loaded here, once a worker."""
    module, _, name = work.open.partition(":")
    opener: Opener = getattr(importlib.import_module(module), name)
    return opener(work, worker)
