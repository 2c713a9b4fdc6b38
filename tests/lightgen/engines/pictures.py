"""PROMPTS of the scene world and the stage `generate` on them: real work for tests of engines."""

import pyarrow as pa

from lightgen.config import Config
from lightgen.engines.build import build
from lightgen.generators.scenes import ScenesConfig
from lightgen.scenes import grammar
from lightgen.stages.generate import GenerateConfig, generate
from lightgen.storage.plans import Stage
from lightgen.storage.shards import ShardOutput
from lightgen.work import Context, MakeShard, Needs, Work, Worker
from schemas.prompts import SCHEMA
from schemas.ref import ArtifactRef

EMPTY = {"string": "", "int32": 0, "float": 0.0}


class TextsConfig(Config):
    """Captions, dealt to shards."""

    texts: tuple[str, ...]
    shards: int


def prompts(context: Context, shards: int = 8) -> ArtifactRef:
    texts = tuple(next(iter(grammar.captions("train", task))) for task in grammar.TASKS)
    config = TextsConfig(texts=texts, shards=shards)
    plan = Stage("select", "prompts", 1).plan(config, 0, [], shards)
    return build(Work.of(plan, config, [], context, f"{__name__}:open", Needs()), context)


def open(work: Work, worker: Worker) -> MakeShard:
    config = TextsConfig.model_validate(work.config)

    def make_shard(shard: int) -> ShardOutput:
        rows = [_row(place, text) for place, text in enumerate(config.texts)][shard :: config.shards]
        return ShardOutput(table=pa.Table.from_pylist(rows, schema=SCHEMA), schema=SCHEMA, rows_in=len(rows))

    return make_shard


def _row(place: int, text: str) -> dict:
    known = {"id": f"{place:032x}", "caption": text, "source": "scenes", "rank": place}
    return {field.name: known.get(field.name, EMPTY.get(str(field.type))) for field in SCHEMA}


def pictures(context: Context, found: ArtifactRef) -> ArtifactRef:
    """The stage `generate`, two images of each prompt."""
    config = GenerateConfig(generator=ScenesConfig(), size_px=32, format="png", samples_per_prompt=2)
    return generate(found, config, context)


def join(context: Context, settings: str) -> ArtifactRef:
    """What a process that joins calls."""
    return pictures(context, prompts(context))
