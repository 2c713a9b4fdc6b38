"""Small stages for tests of engines; imported by workers too, by their module's name."""

import time
from pathlib import Path

import pyarrow as pa

from lightgen.config import Config
from lightgen.engines.build import build
from lightgen.errors import InputCorrupt
from lightgen.generators.scenes import ScenesConfig
from lightgen.scenes import grammar
from lightgen.stages.generate import GenerateConfig, generate
from lightgen.storage.plans import Stage
from lightgen.storage.shards import ShardOutput
from lightgen.work import Context, MakeShard, Needs, Work, Worker
from schemas.prompts import SCHEMA as PROMPTS
from schemas.ref import ArtifactRef

ROWS = pa.schema([pa.field("id", pa.string(), nullable=False), pa.field("n", pa.int32(), nullable=False)])
STAGE = Stage("notes", "captions", revision=1)


class NotesConfig(Config):
    """Rows that mean nothing. Every shard that is made, by whomever, leaves a file in `marks`, before and after."""

    marks: str = ""
    shards: int = 4
    rows: int = 3
    seconds: float = 0.0
    fails: tuple[int, ...] = ()
    sort: str = "map"
    name: str = "a"


def notes(config: NotesConfig, context: Context) -> ArtifactRef:
    """See `NotesConfig`."""
    plan = STAGE.plan({"name": config.name}, context.seed, [], config.shards)
    needs = Needs(sort=config.sort, total=config.shards * config.rows)
    return build(work_of(config, context), context)


def work_of(config: NotesConfig, context: Context) -> Work:
    plan = STAGE.plan({"name": config.name, "shards": config.shards}, context.seed, [], config.shards)
    needs = Needs(sort=config.sort, total=config.shards * config.rows)
    return Work.of(plan, config, [], context, f"{__name__}:open", needs)


def open(work: Work, worker: Worker) -> MakeShard:
    config = NotesConfig.model_validate(work.config)

    def make_shard(shard: int) -> ShardOutput:
        mark(config, f"begun-{shard:05d}-{worker.id}")
        for _ in range(config.rows):
            time.sleep(config.seconds / config.rows)
            worker.progress.advance(1)
        if shard in config.fails:
            raise InputCorrupt(f"shard {shard} cannot be read")
        mark(config, f"ended-{shard:05d}-{worker.id}")
        ids = [f"{shard}-{row}" for row in range(config.rows)]
        table = pa.table({"id": ids, "n": list(range(config.rows))}, schema=ROWS)
        return ShardOutput(table=table, rows_in=config.rows, schema=ROWS)

    return make_shard


def mark(config: NotesConfig, name: str) -> None:
    if config.marks:
        (Path(config.marks) / name).touch()


def prompts(context: Context, count: int = 12, shards: int = 6) -> ArtifactRef:
    """PROMPTS of the scene world."""
    texts = [
        text for task in grammar.TASKS for _, text in zip(range(count), grammar.captions("train", task), strict=False)
    ]
    plan = Stage("select", "prompts", 1).plan({"count": count}, 0, [], shards)
    config = PromptsConfig(texts=tuple(texts[:count]), shards=shards)
    return build(Work.of(plan, config, [], context, f"{__name__}:open_prompts", Needs()), context)


class PromptsConfig(Config):
    texts: tuple[str, ...]
    shards: int


def open_prompts(work: Work, worker: Worker) -> MakeShard:
    config = PromptsConfig.model_validate(work.config)

    def make_shard(shard: int) -> ShardOutput:
        rows = [prompt(place, text) for place, text in enumerate(config.texts)][shard :: config.shards]
        return ShardOutput(table=pa.Table.from_pylist(rows, schema=PROMPTS), schema=PROMPTS, rows_in=len(rows))

    return make_shard


def prompt(place: int, text: str) -> dict:
    known = {"id": f"{place:032x}", "caption": text, "source": "scenes", "rank": place}
    empty = {"string": "", "int32": 0, "int64": 0, "float": 0.0, "double": 0.0}
    return {field.name: known.get(field.name, empty[str(field.type)]) for field in PROMPTS}


def images(context: Context, found: ArtifactRef) -> ArtifactRef:
    """The stage `generate` with the scenes of the grammar."""
    return generate(found, GenerateConfig(generator=ScenesConfig(), size_px=32, format="png"), context)
