"""What travels to workers: a description of a stage's work, and what a worker is given to do it with."""

import importlib
import importlib.util
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, Self

from pydantic import Field, TypeAdapter, model_validator

from lightgen.config import Config, Member
from lightgen.problems import Problem
from lightgen.progress import SILENT, Progress
from lightgen.settings import Device
from lightgen.storage.plans import Stage
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
        description="processes: one worker a GPU, else a core, of this machine; ray: one a device of the cluster",
    )
    workers: int | Literal["auto"] = Field(default="auto", description="auto: as many as there are devices")
    device: Device = Field(default="auto", description="auto: the GPU where there is one")
    address: str | None = Field(default=None, description="of a Ray cluster, host:port or auto; null starts one here")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.workers != "auto" and self.workers < 1:
            raise ValueError("workers: at least one, or auto")
        if self.address is not None and self.engine != "ray":
            raise ValueError("address is that of a Ray cluster: set engine: ray, or leave it out")
        return self

    def problems(self) -> Iterator[Problem]:
        """See `Config.problems`."""
        if self.engine == "ray" and importlib.util.find_spec("ray") is None:
            yield Problem("here", "engine", "ray is not installed", "pip install '.[ray]', or take engine: processes")


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
    machines: int = 1
    """A job that meets at a rendezvous runs on as many machines at once; each of them calls its stage."""


class Engine(Protocol):
    """Starts work loops; which worker makes which shard is decided by claims."""

    def run(self, work: "Work", context: "Context") -> None:
        """Return when every shard of `work` has a receipt. Raises what a worker raised, or WorkersLost."""
        ...


@dataclass(frozen=True)
class Context:
    """Where a stage works, and how; the last argument of every stage.

    `role` is what the run makes the version for. `engine` is one that the stages of a run share (see
    `lightgen.engines.engine.open_engine`); without it each stage opens its own. With `find_only` nothing is made or
    published: a stage finds its sealed version or raises NotMade. With `redraw` it draws evicted images again.
    """

    store: Store
    seed: int = 0
    run: RunConfig = field(default_factory=RunConfig)
    progress: Progress = SILENT
    role: str = ""
    engine: Engine | None = None
    find_only: bool = False
    redraw: bool = False


@dataclass(frozen=True)
class Work:
    """All shards of one version. Crosses processes and machines; `open` names the function that makes shards.

    `store_id`, `revisions` and `content` say what a worker must find on its side to take part.
    """

    plan: Plan
    config: dict[str, Any]
    parents: tuple[ArtifactRef, ...]
    store: str
    store_id: str
    open: str
    settings: str
    """Name of the class of `config`, `module:Class`."""
    content: dict[str, Any]
    """What `config` says of results, digests of local models with it."""
    revisions: dict[str, int]
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
        kind = type(config)
        return Work(
            plan=plan,
            config=config.model_dump(mode="json"),
            parents=tuple(parents),
            store=context.store.uri,
            store_id=context.store.mark.store_id,
            open=open,
            settings=f"{kind.__module__}:{kind.__qualname__}",
            content=config.content(),
            revisions=revisions(),
            needs=needs,
            max_reject_fraction=getattr(config, "max_reject_fraction", 1.0),
            family=family,
        )

    def dump(self) -> str:
        """One line of JSON."""
        return _WORK.dump_json(self).decode()

    @staticmethod
    def load(line: str) -> "Work":
        """The work that `dump` wrote down."""
        return _WORK.validate_json(line)


_WORK = TypeAdapter(Work)


@dataclass(frozen=True)
class Worker:
    """What an engine gives to whoever makes shards: the device is given, never guessed. `id` is its name in claims."""

    store: Store
    device: str = "cpu"
    progress: Progress = SILENT
    id: str = field(default_factory=lambda: uuid.uuid4().hex)


Opener = Callable[[Work, Worker], MakeShard]


def open_work(work: Work, worker: Worker) -> MakeShard:
    """The function that makes shards of `work`; models are loaded here, once a worker."""
    opener: Opener = named(work.open)
    return opener(work, worker)


def named(name: str) -> Any:
    """What `module:name` names; the module is imported."""
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


def revisions() -> dict[str, int]:
    """The revision of every stage and member that is imported here, by name."""
    return dict(sorted((*_of_stages(), *_of_members(Member))))


def _of_stages() -> Iterator[tuple[str, int]]:
    for name, module in list(sys.modules.items()):
        stage = getattr(module, "STAGE", None) if name.startswith("lightgen.stages.") else None
        if isinstance(stage, Stage):
            yield f"stage {stage.name}", stage.revision


def _of_members(family: type[Member]) -> Iterator[tuple[str, int]]:
    for member in family.__subclasses__():
        yield f"{member.__module__}.{member.__qualname__}", member.REVISION
        yield from _of_members(member)
