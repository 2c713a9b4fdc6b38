"""Corpora -> CAPTIONS: reads, repairs and counts captions; what is refused is kept with its reason.

A map over ranges of the corpora: an inventory hashes each file and cuts it, a shard reads its range again and is not
sealed where that changed. Memory: the rows of one shard, and 100 bytes a shard for the inventory. A million captions in
shards of 1000 took 38 s of one core and 146 MB, as ten thousand do, before the commit (Xeon, 28 Nov 2026).
"""

import json
from collections.abc import Iterable
from dataclasses import replace

import pyarrow as pa
from pydantic import Field, TypeAdapter

from lightgen.config import RUN
from lightgen.corpora.cleaning import Cleaned, Limits, clean
from lightgen.corpora.config import CorpusConfig
from lightgen.corpora.inventory import take_inventory
from lightgen.corpora.ranges import Inventory
from lightgen.corpora.raw import RawCaption
from lightgen.corpora.sharding import count_shards, ranges_of
from lightgen.corpora.tokenizer import Count, TokenizerConfig, Words, counter
from lightgen.engines.build import build
from lightgen.seeds import content_id
from lightgen.storage.plans import Stage
from lightgen.storage.shards import Reject, ShardOutput
from lightgen.work import Context, MakeShard, Needs, Work, Worker
from schemas.captions import SCHEMA
from schemas.ref import ArtifactRef

STAGE = Stage("source", "captions", revision=1)
INVENTORIES = TypeAdapter(list[Inventory])
DETAIL = 500


class SourceConfig(Limits):
    """Which corpora, and what a caption must be."""

    corpora: list[CorpusConfig] = Field(min_length=1, description="read one after the other")
    tokenizer: Words | TokenizerConfig = Field(
        default="words", description="`words`, or `model`, `revision` and `subfolder` of a transformers tokenizer"
    )
    shard_rows: int = Field(default=1000, ge=1, description="captions a shard")
    max_reject_fraction: float = Field(
        default=0.6,
        ge=0,
        le=1,
        description="share of rows that may be refused; more end the stage",
        json_schema_extra=RUN,
    )


def source(config: SourceConfig, context: Context) -> ArtifactRef:
    """Captions of all corpora; a shard is a range of one file, so a file that grows leaves the shards before alone.

    The same content under another path is the same version. Raises InputCorrupt, InputChanged, ConfigError.
    """
    found = [take_inventory(corpus, config.shard_rows) for corpus in config.corpora]
    n_shards = count_shards(STAGE.name, found)
    inputs = {"corpora": [one.model_dump(mode="json") for one in found]}
    plan = STAGE.plan(config, context.seed, [], n_shards, inputs)
    needs = Needs(unit="rows", total=sum(one.rows for one in found))
    return build(Work.of(plan, config, [], context, f"{__name__}:open", needs), context)


def open(work: Work, worker: Worker) -> MakeShard:
    """Loads the tokenizer; see `lightgen.work`."""
    config = SourceConfig.model_validate(work.config)
    found = INVENTORIES.validate_python(work.plan.inputs["corpora"])
    count, scratch = counter(config.tokenizer), worker.store.scratch(work.plan)
    shards = ranges_of(STAGE.name, config.corpora, found)

    def make_shard(shard: int) -> ShardOutput:
        if not shards:
            return clean_rows([], "", config, count)
        corpus, ordinal, inventory, place = shards[shard]
        rows = corpus.read_range(inventory, place, scratch)
        made = clean_rows(rows, record_prefix(corpus.key, ordinal), config, count)
        return made if shard else replace(made, extras={"corpora.json": _as_given(config, found)})

    return make_shard


def record_prefix(key: str, ordinal: int) -> str:
    """What the ids of all records of a corpus begin with; `ordinal` tells apart the files of one key."""
    return f"{content_id('corpus', key)[:14]}{ordinal:06x}"


def clean_rows(rows: Iterable[RawCaption], prefix: str, config: SourceConfig, count: Count) -> ShardOutput:
    """Cleaned captions and rejects; the id of a record is `prefix` and its row, so ids sort as records stand."""
    kept: list[tuple[str, str, str, int, str, str]] = []
    rejects: list[Reject] = []
    for row in rows:
        id, cleaned = f"{prefix}{row.row:012x}", clean(row.text, config, count)
        if isinstance(cleaned, Cleaned):
            caption_id = content_id("caption", cleaned.caption)
            kept.append((id, caption_id, cleaned.caption, cleaned.tokens, row.source, row.licence))
        else:
            rejects.append(_reject(id, row, *cleaned))
    columns = zip(*kept, strict=True) if kept else [()] * len(SCHEMA)
    arrays = [pa.array(values, field.type) for values, field in zip(columns, SCHEMA, strict=True)]
    table = pa.Table.from_arrays(arrays, schema=SCHEMA)
    return ShardOutput(table=table, schema=SCHEMA, rejects=rejects, rows_in=len(kept) + len(rejects))


def _reject(id: str, row: RawCaption, reason: str, detail: str) -> Reject:
    shown = row.text if isinstance(row.text, str) else (row.text or b"").decode("utf-8", "backslashreplace")
    shown = shown.encode("utf-8", "backslashreplace").decode()[:DETAIL]
    record = {"text": shown, "source": row.source, "licence": row.licence}
    return Reject(id, reason, f"{row.where}: {detail}"[:DETAIL], record)


def _as_given(config: SourceConfig, found: list[Inventory]) -> bytes:
    """Which files were read: for people, since a version does not hang on paths."""
    lines = [
        {"path": corpus.given, "source": corpus.key, "sha256": one.sha256, "rows": one.rows}
        for corpus, one in zip(config.corpora, found, strict=True)
    ]
    return json.dumps(lines, indent=1).encode()
