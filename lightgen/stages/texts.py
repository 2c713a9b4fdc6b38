"""PROMPTS -> TEXTS: what the student's text encoder makes of every prompt, once for all its images and resolutions.

KEPT or PAIRS may take the place of PROMPTS: then each prompt of their rows has its text. A map: shard i holds the texts
of shard i, and equal captions are encoded once. What other versions hold of a caption is taken over, so a grown corpus
encodes its new captions only. Memory: the texts of a shard; without PROMPTS 17 bytes a row too.
"""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions when it is imported, where pyright does not see them.

from dataclasses import replace
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from pydantic import Field

from lightgen.config import QUIET, RUN, Config
from lightgen.encoders.restore import TEXT_FILE, TextEncoding
from lightgen.encoders.t5 import T5Config
from lightgen.encoders.text import TextConfig, TextEncoder
from lightgen.engines.build import build
from lightgen.errors import SchemaMismatch
from lightgen.progress import Progress
from lightgen.seeds import content_id
from lightgen.storage.feature_codec import id_numbers, text_array, text_from_table
from lightgen.storage.locations import remember
from lightgen.storage.plans import Stage
from lightgen.storage.quantised import DAMAGE_FILE, Damage
from lightgen.storage.reuse import Lender, LentShard, family_of, lenders, taken
from lightgen.storage.shards import Reject, ShardOutput
from lightgen.storage.version import Version
from lightgen.work import Context, MakeShard, Needs, Work, Worker
from schemas import texts as texts_schema
from schemas.ref import ArtifactRef

STAGE = Stage("texts", "texts", revision=1)
NAMES = ["id", "caption"]
TOGETHER = 512  # captions that the encoder is given at once
NONFINITE = ("feature_nonfinite", "a text value is not a finite float16")


class TextsConfig(Config):
    """How captions become vectors."""

    encoder: TextConfig = Field(description="captions to vectors")
    codec: Literal["plain", "int8"] = Field(
        default="plain", description="int8: half the bytes, a scale for every 64 numbers", json_schema_extra=QUIET
    )
    max_error: float = Field(
        default=0.02, gt=0, description="relative L2 that int8 may cost; more ends the stage", json_schema_extra=RUN
    )
    max_reject_fraction: float = Field(
        default=0.05, ge=0, le=1, description="more rejects than this end the stage", json_schema_extra=RUN
    )


def texts(prompts: ArtifactRef, config: TextsConfig, context: Context) -> ArtifactRef:
    """The text of every prompt; `prompts` may be KEPT or PAIRS. Texts that are not finite are rejected."""
    source = context.store.open(prompts)
    if isinstance(config.encoder, T5Config) and not context.find_only:
        remember(context.store, config.encoder)
    plan = STAGE.plan(config, 0, [prompts], source.n_shards)
    needs = Needs(gpu=config.encoder.wants_gpu, unit="texts", total=source.rows)
    family = family_of(STAGE.revision, plan.config)
    return build(Work.of(plan, config, [prompts], context, f"{__name__}:open", needs, family), context)


def open(work: Work, worker: Worker) -> MakeShard:
    """Loads the text encoder; see `lightgen.work`."""
    config = TextsConfig.model_validate(work.config)
    prompts = Prompts(worker.store.open(work.parents[0]))
    known = [Lender(one, _lender_keys) for one in lenders(worker.store, work.plan, work.family)]
    encoder = config.encoder.open(worker.device)
    schema = texts_schema.schema(encoder.dim, encoder.storage, config.codec)
    made_by = TextEncoding(text_dim=encoder.dim, text=config.encoder.identity())

    def make_shard(shard: int) -> ShardOutput | LentShard:
        rows = prompts.of(shard)
        for lender in known:
            if shard < lender.version.n_shards and _same_prompts(lender.version, shard, rows):
                worker.progress.advance(rows.num_rows)
                return LentShard(lender.version, shard)
        captions = list(dict.fromkeys(rows["caption"].to_pylist()))
        found = _borrowed(known, shard, captions, schema)
        lent = set(found["caption"].to_pylist())
        reused = sum(caption in lent for caption in rows["caption"].to_pylist())
        worker.progress.advance(reused)
        damage = Damage()
        fresh = [one for one in captions if one not in lent]
        made = _encoded(encoder, fresh, schema, config.codec, damage, worker.progress)
        damage.check(config.max_error, "texts", "codec: plain")
        output = _output(rows, pa.concat_tables([found, made]), schema, reused)
        extras = {} if config.codec == "plain" else {DAMAGE_FILE: damage.report()}
        return replace(output, files={TEXT_FILE: made_by.file()} if shard == 0 else {}, extras=extras)

    return make_shard


class Prompts:
    """Ids and captions of prompts. KEPT and PAIRS may have many rows of one: it counts where it stands first."""

    def __init__(self, source: Version) -> None:
        self.source = source
        self._first = None if source.ref.kind == "prompts" else _first_of_each(source)

    def of(self, shard: int) -> pa.Table:
        """Those of one shard."""
        if self._first is None:
            return self.source.table(shard, columns=NAMES)
        rows = self.source.table(shard, columns=["prompt_id", "caption"]).rename_columns(NAMES)
        return rows.filter(pa.array(self._first[shard]))


def _first_of_each(source: Version) -> list[np.ndarray]:
    """For each shard which of its rows are the first of their prompt."""
    parts = [source.table(shard, columns=["prompt_id"])["prompt_id"].to_pylist() for shard in range(source.n_shards)]
    numbers = [id_numbers(part) for part in parts]
    _, first = np.unique(np.concatenate(numbers), return_index=True)
    chosen = np.zeros(sum(map(len, numbers)), bool)
    chosen[first] = True
    return np.split(chosen, np.cumsum([len(part) for part in numbers])[:-1])


def _lender_keys(version: Version, shard: int) -> list[str]:
    """Keys of texts by what decides them: their captions."""
    return [content_id(caption) for caption in version.table(shard, columns=["caption"])["caption"].to_pylist()]


def _same_prompts(version: Version, shard: int, rows: pa.Table) -> bool:
    theirs = version.table(shard, columns=NAMES)
    return all(theirs[name].equals(rows[name]) for name in NAMES)


def _borrowed(known: list[Lender], shard: int, captions: list[str], schema: pa.Schema) -> pa.Table:
    """Texts of captions that other versions hold, each once."""
    named = {content_id(caption): caption for caption in captions}
    parts = [schema.empty_table()]
    for lender, where, keys in taken(known, shard, list(named)):
        table = lender.version.table(where)
        wanted = pa.array([named[key] for key in keys], pa.string())
        parts.append(table.take(pc.index_in(wanted, table["caption"].combine_chunks())))
    return pa.concat_tables(parts)


def _encoded(
    encoder: TextEncoder, captions: list[str], schema: pa.Schema, codec: str, damage: Damage, progress: Progress
) -> pa.Table:
    """Texts of captions, each once; those that are not finite are missing. `damage` learns what was stored wrong."""
    parts = [schema.empty_table()]
    for start in range(0, len(captions), TOGETHER):
        some = captions[start : start + TOGETHER]
        vectors = encoder.encode(some)
        wrong = [tuple(one.shape) for one in vectors if one.ndim != 2 or one.shape[1] != encoder.dim]
        if wrong:
            raise SchemaMismatch(f"FeatureShape: the text encoder gave {wrong[0]}, expected (tokens, {encoder.dim})")
        finite = [place for place, one in enumerate(vectors) if bool(torch.isfinite(one.half()).all())]
        kept, words = [some[place] for place in finite], [vectors[place] for place in finite]
        columns = [pa.array(kept, pa.string()), pa.array(kept, pa.string()), text_array(words, encoder.storage, codec)]
        counts = pa.array([len(one) for one in words], pa.int32())
        parts.append(pa.Table.from_arrays([*columns, counts], schema=schema))
        if codec != "plain" and words:
            damage.add(torch.cat(words), text_from_table(parts[-1])[0])
        progress.advance(len(some))
    return pa.concat_tables(parts)


def _output(rows: pa.Table, found: pa.Table, schema: pa.Schema, reused: int) -> ShardOutput:
    """A text for each row by its caption, out of those that were found."""
    place = pc.index_in(rows["caption"], found["caption"].combine_chunks())
    there = pc.is_valid(place)
    table = found.take(place.filter(there)).set_column(0, schema.field("id"), rows["id"].filter(there))
    refused = rows.filter(pc.invert(there)).to_pylist()
    rejects = [Reject(row["id"], *NONFINITE, row=row) for row in refused]
    return ShardOutput(table, rows.num_rows, schema, rejects, rows_reused=reused)
