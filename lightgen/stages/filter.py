"""IMAGES + SCORES -> KEPT: rules over scores, then repeats, then the best of N; without a look at a pixel.

A decision. Memory: ids, captions and the columns that rules name, of all images; time n log n.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import Field

from lightgen.config import QUIET, RUN, Config
from lightgen.decisions.best_of import Best
from lightgen.decisions.derive import AnyDerive, DeriveConfig, derive, with_derived
from lightgen.decisions.filtering import Decision, decide
from lightgen.decisions.repeats import Repeats
from lightgen.decisions.rules import Rule
from lightgen.engines.build import build
from lightgen.errors import StoreCorrupt
from lightgen.storage.plans import Stage
from lightgen.storage.shards import Reject, ShardOutput
from lightgen.storage.version import Version
from lightgen.work import Context, MakeShard, Needs, Work, Worker
from schemas.kept import SCHEMA
from schemas.ref import ArtifactRef

STAGE = Stage("filter", "kept", revision=1)
OWN = ("id", "prompt_id", "caption", "image_sha256")
RULES = (
    Rule(column="pixels.short_side", least=32, reason="too_small"),
    Rule(column="pixels.contrast", least=0.01, reason="blank"),
)
REPEATS = (
    Repeats(column="image_sha256", bits=0, group=None, reason="duplicate_exact"),
    Repeats(column="pixels.phash", bits=4, group="caption", reason="duplicate_perceptual"),
)


class FilterConfig(Config):
    """What an image must be to be kept. Columns are named `<score>.<column>`, or as IMAGES names them."""

    rules: tuple[Rule, ...] = Field(default=RULES, description="the first rule that an image breaks is its reason")
    repeats: tuple[Repeats, ...] = Field(
        default=REPEATS, description="of images that repeat each other the one of the smallest id stays"
    )
    best: tuple[Best, ...] = Field(
        default=(), description="of what is left the best images of each prompt stay", json_schema_extra=QUIET
    )
    derive: dict[str, DeriveConfig] = Field(
        default={}, description="by score: columns that are made of its raw answers first", json_schema_extra=QUIET
    )
    max_reject_fraction: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="share of rows that may be refused; more end the stage",
        json_schema_extra=RUN,
    )


class _Work(Config):
    """The rules with the names of the scores, in the order of the parents."""

    names: tuple[str, ...]
    rules: tuple[Rule, ...]
    repeats: tuple[Repeats, ...]
    best: tuple[Best, ...] = Field(default=(), json_schema_extra=QUIET)
    derive: dict[str, DeriveConfig] = Field(default={}, json_schema_extra=QUIET)
    max_reject_fraction: float = Field(json_schema_extra=RUN)


def filter_images(
    images: ArtifactRef, scores: Mapping[str, ArtifactRef], config: FilterConfig, context: Context
) -> ArtifactRef:
    """The images that pass; shard i holds those of image shard i. `yield.json` says what each rule took."""
    source = context.store.open(images)
    settings = _Work(names=tuple(scores), **{name: getattr(config, name) for name in FilterConfig.model_fields})
    parents = [images, *scores.values()]
    plan = STAGE.plan(settings, context.seed, parents, source.n_shards)
    needs = Needs(sort="decision", unit="images", total=source.rows)
    return build(Work.of(plan, settings, parents, context, f"{__name__}:open", needs), context)


def open(work: Work, worker: Worker) -> MakeShard:
    """Decides about all images; see `lightgen.work`."""
    settings = _Work.model_validate(work.config)
    images, *scores = (worker.store.open(ref) for ref in work.parents)
    named = dict(zip(settings.names, scores, strict=True))
    tables = [score_columns(images, named, shard, settings.derive) for shard in range(images.n_shards)]
    decision = decide(pa.concat_tables(tables), settings.rules, settings.repeats, settings.best)
    starts = np.cumsum([0, *(table.num_rows for table in tables)])

    def make_shard(shard: int) -> ShardOutput:
        made = _shard(tables[shard], decision, int(starts[shard]))
        return made if shard else _with_yields(made, decision)

    return make_shard


def score_columns(
    images: Version, scores: Mapping[str, Version], shard: int, derivations: Mapping[str, AnyDerive]
) -> pa.Table:
    """Ids, captions and all columns of all scores of one shard, row for row as the images. Raises StoreCorrupt."""
    whole = images.table(shard, columns=list(OWN))
    for name, version in scores.items():
        table = version.table(shard)
        if not table["id"].equals(whole["id"]):
            raise StoreCorrupt(f"{version.ref} shard {shard}: its rows are not those of {images.ref}")
        if name in derivations:
            table = with_derived(table, derive(table, derivations[name]))
        for column in table.column_names:
            if column not in (*OWN, "index"):
                whole = whole.append_column(f"{name}.{column}", table[column])
    return whole


def _shard(table: pa.Table, decision: Decision, start: int) -> ShardOutput:
    rows = slice(start, start + table.num_rows)
    kept = decision.kept[rows]
    refused = np.flatnonzero(~kept)
    lost: list[dict[str, Any]] = table.take(refused).to_pylist()
    why = zip(
        lost,
        decision.reason[rows].take(refused).to_pylist(),
        decision.detail[rows].take(refused).to_pylist(),
        strict=True,
    )
    rejects = [Reject(row["id"], reason, _detail(row, reason, detail), row) for row, reason, detail in why]
    passed = table.select(SCHEMA.names).filter(pa.array(kept)).cast(SCHEMA)
    return ShardOutput(table=passed, schema=SCHEMA, rejects=rejects, rows_in=table.num_rows)


def _detail(row: Mapping[str, Any], reason: str, detail: str) -> str:
    """Of an image that a scorer could not score: what the scorer said."""
    said = [row[f"{name}_detail"] for name, value in row.items() if name.endswith(".unscored") and value == reason]
    return said[0] if said else detail


def _with_yields(made: ShardOutput, decision: Decision) -> ShardOutput:
    steps = [vars(one) for one in decision.yields]
    return replace(made, extras={"yield.json": json.dumps(steps, indent=1).encode()})
