"""Corpora -> CAPTIONS: reads, repairs and counts captions; what is refused is kept with its reason.

A map over ranges of the corpora: an inventory hashes each file and cuts it, a shard reads its range again and is not
sealed where that changed. Memory: the rows of one shard, and 100 bytes a shard for the inventory. A million captions in
shards of 1000 held 146 MB, as ten thousand do, before the commit (Xeon, 28 Nov 2026); their time is in
docs/benchmarks.md.
"""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions when it is imported, where pyright does not see them.

import json
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, TypeAdapter

from lightgen.config import RUN
from lightgen.corpora.base import Corpus
from lightgen.corpora.cleaning import Limits, clean_all
from lightgen.corpora.config import CorpusConfig
from lightgen.corpora.inventory import take_inventory
from lightgen.corpora.ranges import Inventory
from lightgen.corpora.raw import RawCaptions
from lightgen.corpora.sharding import count_shards, ranges_of
from lightgen.corpora.token_budget import SAMPLE, sampled, token_budget
from lightgen.corpora.tokenizer import CountAll, TokenizerConfig, Words, counter
from lightgen.engines.build import build
from lightgen.errors import LightgenError
from lightgen.problems import Problem
from lightgen.seeds import content_id, content_ids, hex_texts
from lightgen.storage.locations import remember
from lightgen.storage.plans import Stage
from lightgen.storage.shards import ShardOutput, reject_rows
from lightgen.work import Context, MakeShard, Needs, Work, Worker
from schemas.captions import SCHEMA
from schemas.ref import ArtifactRef

STAGE = Stage("source", "captions", revision=2)
INVENTORIES = TypeAdapter(list[Inventory])
DETAIL = 500
PART_DIGITS = 3  # hexadecimal, of an id: which caption of its record it is


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

    def problems(self) -> Iterator[Problem]:
        """See `Config.problems`: how much of the captions lies beyond what a text encoder reads."""
        try:
            count = counter(self.tokenizer)
            found = token_budget(sampled(self.corpora, self, count), count)
        except LightgenError:
            return  # that a corpus or a tokenizer cannot be read is said by itself
        if found[0].captions:
            what = f"of the first {SAMPLE:,} captions of each corpus: {'; '.join(map(str, found))}"
            fix = f"captions of more than max_tokens ({self.max_tokens}) are refused here"
            yield Problem("here", "max_tokens", what, fix, "remark")


def source(config: SourceConfig, context: Context) -> ArtifactRef:
    """Captions of all corpora; a shard is a range of one file, so a file that grows leaves the shards before alone.

    The same content under another path is the same version. Raises InputCorrupt, InputChanged, ConfigError.
    """
    found = [take_inventory(file, config.shard_rows) for file in files_of(config)]
    n_shards = count_shards(STAGE.name, found)
    inputs = {"corpora": [one.model_dump(mode="json") for one in found]}
    plan = STAGE.plan(config, context.seed, [], n_shards, inputs)
    if isinstance(config.tokenizer, TokenizerConfig):
        remember(context.store, config.tokenizer)
    needs = Needs(unit="rows", total=sum(one.rows for one in found))
    return build(Work.of(plan, config, [], context, f"{__name__}:open", needs), context)


def files_of(config: SourceConfig) -> list[Corpus]:
    """All files of all corpora, in order. Raises InputCorrupt."""
    return [file for corpus in config.corpora for file in corpus.files()]


def open(work: Work, worker: Worker) -> MakeShard:
    """Loads the tokenizer; see `lightgen.work`."""
    config = SourceConfig.model_validate(work.config)
    files, found = files_of(config), INVENTORIES.validate_python(work.plan.inputs["corpora"])
    count, scratch = counter(config.tokenizer), worker.store.scratch(work.plan)
    shards = ranges_of(STAGE.name, files, found)

    def make_shard(shard: int) -> ShardOutput:
        if not shards:
            return ShardOutput(table=SCHEMA.empty_table(), schema=SCHEMA, rows_in=0)
        corpus, ordinal, inventory, place = shards[shard]
        rows = corpus.read_range(inventory, place, scratch)
        made = cleaned(rows, record_prefix(corpus.key, ordinal), config, count)
        return made if shard else replace(made, extras={"corpora.json": _as_given(files, found)})

    return make_shard


def record_prefix(key: str, ordinal: int) -> str:
    """What the ids of all records of a corpus begin with; `ordinal` tells apart the files of one key."""
    return f"{content_id('corpus', key)[:14]}{ordinal:06x}"


def cleaned(rows: RawCaptions, prefix: str, config: SourceConfig, count: CountAll) -> ShardOutput:
    """Captions and rejects. The id of one is `prefix`, its row and its place in the row, so ids sort as they stand."""
    found = clean_all(rows.text, config, count)
    refused = found.refused | dict(rows.refused)
    kept = np.ones(len(rows), bool)
    kept[list(refused)] = False
    ids = _ids(rows, prefix)
    captions = found.captions.filter(pa.array(kept))
    sources = pa.repeat(rows.source, len(rows)) if isinstance(rows.source, str) else pa.array(rows.source, pa.string())
    columns = {
        "id": ids.filter(pa.array(kept)),
        "caption_id": content_ids("caption", captions),
        "caption": captions.cast(pa.string()),
        "tokens": pa.array(found.tokens[kept]),
        "source": sources.filter(pa.array(kept)),
        "licence": pa.repeat(rows.licence, len(captions)),
    }
    table = pa.table([columns[field.name] for field in SCHEMA], schema=SCHEMA)
    return ShardOutput(table, len(rows), SCHEMA, _rejects(ids, rows, sources, refused))


def _ids(rows: RawCaptions, prefix: str) -> pa.StringArray:
    part = np.zeros(len(rows), np.int64) if rows.part is None else rows.part
    if (part >= 1 << 4 * PART_DIGITS).any():
        return pa.array([f"{prefix}{row:09x}{of:03x}" for row, of in np.stack([rows.row, part], axis=1).tolist()])
    places = (rows.row << 4 * PART_DIGITS | part).astype(">u8").view(np.uint8).reshape(-1, 8)
    return pc.binary_join_element_wise(prefix, hex_texts(places[:, 2:]), "")


def _rejects(
    ids: pa.StringArray, rows: RawCaptions, sources: pa.StringArray, refused: dict[int, tuple[str, str]]
) -> pa.Table:
    places = sorted(refused)
    at = pa.array(places, pa.int64())
    shown = pa.array([escaped_bytes(text or b"") for text in rows.text.take(at).to_pylist()], pa.string())
    licence = pa.repeat(rows.licence, len(places))
    reasons = [refused[place][0] for place in places]
    details = [f"{rows.where(place)}: {refused[place][1]}"[:DETAIL] for place in places]
    record = pa.table({"text": shown, "source": sources.take(at), "licence": licence})
    return reject_rows(ids.take(at), reasons, details, record)


def escaped_bytes(data: bytes) -> str:
    """The beginning of a text of a file as it may be shown, whatever its bytes are."""
    return data[: 4 * DETAIL].decode("utf-8", "backslashreplace")[:DETAIL]


def _as_given(files: list[Corpus], found: list[Inventory]) -> bytes:
    """Which files were read: for people, since the name of a version does not depend on paths."""
    lines = [
        {"path": corpus.given, "source": corpus.key, "sha256": one.sha256, "rows": one.rows}
        for corpus, one in zip(files, found, strict=True)
    ]
    return json.dumps(lines, indent=1).encode()
