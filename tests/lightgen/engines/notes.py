"""A stage that makes nothing much, for tests of engines; workers import it by its name."""

import os
import time
from pathlib import Path

import pyarrow as pa

from lightgen.config import Config
from lightgen.engines.build import build
from lightgen.errors import InputCorrupt
from lightgen.storage.plans import Stage
from lightgen.storage.shards import ShardOutput
from lightgen.work import Context, MakeShard, Needs, Sort, Work, Worker
from schemas.ref import ArtifactRef

ROWS = pa.schema([pa.field("id", pa.string(), nullable=False), pa.field("n", pa.int32(), nullable=False)])
STAGE = Stage("notes", "captions", revision=1)
PATIENCE_S = 120.0


class NotesConfig(Config):
    """Every shard that is made, by whomever, leaves files in `marks`: one when it begins, one when it ends.

    Where a test needs that something happens while a shard is made, the shard waits for it: no length of time is right
    on every machine.
    """

    name: str = "a"
    shards: int = 4
    marks: str = ""
    rows: int = 4
    seconds: float = 0.0
    workers: int = 0  # no shard ends before so many processes have opened the work
    gate: str = ""  # nor before there is this file
    fails: tuple[int, ...] = ()
    breaks: tuple[int, ...] = ()
    sort: Sort = "map"
    machines: int = 1
    gpu: bool = False


def notes(config: NotesConfig, context: Context) -> ArtifactRef:
    return build(work_of(config, context), context)


def work_of(config: NotesConfig, context: Context) -> Work:
    """Only name, shards and rows are in the plan: how long it takes and whether it fails are not."""
    plan = STAGE.plan({"name": config.name, "rows": config.rows}, context.seed, [], config.shards)
    needs = Needs(config.sort, gpu=config.gpu, total=config.shards * config.rows, machines=config.machines)
    return Work.of(plan, config, [], context, f"{__name__}:open", needs)


def open(work: Work, worker: Worker) -> MakeShard:
    config = NotesConfig.model_validate(work.config)
    mark(config, f"opened-{worker.id}", f"{os.getpid()} {worker.device} {dict(os.environ)}")

    def make_shard(shard: int) -> ShardOutput:
        mark(config, f"begun-{shard:05d}-{worker.id}", str(os.getpid()))
        for _ in range(config.rows):
            time.sleep(config.seconds / config.rows)
            worker.progress.advance(1)
        await_others(config)
        if shard in config.fails:
            raise InputCorrupt(f"shard {shard} cannot be read")
        if shard in config.breaks:
            raise RuntimeError(f"a mistake of the programmer in shard {shard}")
        mark(config, f"ended-{shard:05d}-{worker.id}")
        ids = [f"{config.name}-{shard}-{row}" for row in range(config.rows)]
        table = pa.table({"id": ids, "n": list(range(config.rows))}, schema=ROWS)
        return ShardOutput(table=table, rows_in=config.rows, schema=ROWS)

    return make_shard


def await_others(config: NotesConfig) -> None:
    give_up = time.monotonic() + PATIENCE_S
    while not may_end(config):
        assert time.monotonic() < give_up, f"waited in vain for {config.workers} processes, or for {config.gate or '-'}"
        time.sleep(0.02)


def may_end(config: NotesConfig) -> bool:
    there = not config.gate or Path(config.gate).exists()
    return there and (not config.workers or len(processes_of(Path(config.marks))) >= config.workers)


def mark(config: NotesConfig, name: str, text: str = "") -> None:
    if config.marks:
        coming = Path(config.marks) / f".{name}"
        coming.write_text(text)
        coming.rename(Path(config.marks) / name)


def marked(folder: Path, what: str) -> list[str]:
    """Shards, or workers, of which `what` was marked; one that was made twice is there twice."""
    return sorted(path.name.split("-")[1] for path in folder.glob(f"{what}-*"))


def processes_of(folder: Path, what: str = "opened") -> set[int]:
    """The processes that left such marks."""
    return {int(path.read_text().split()[0]) for path in folder.glob(f"{what}-*")}


def join(context: Context, settings: str) -> ArtifactRef:
    """What a process that joins calls."""
    return notes(NotesConfig.model_validate_json(settings), context)
