"""CHECKPOINT + PAIR_FEATURES + TEXTS -> REFERENCE: what DPO's frozen reference says of every pair, asked once for all.

A map. Memory: the student, a batch of pairs and the ids of all texts.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
import torch
from pydantic import Field

from lightgen.config import QUIET, RUN, Config
from lightgen.encoders.restore import read_text_encoding
from lightgen.engines.build import build
from lightgen.errors import ConfigError
from lightgen.generators.restore import CheckpointConfig, Weights, checkpoint_config, load_student
from lightgen.model.masking import MaskLaw
from lightgen.model.precision import float32_products, mixed_precision
from lightgen.seeds import content_id
from lightgen.storage.plans import Stage
from lightgen.storage.shards import ShardOutput
from lightgen.storage.version import Version
from lightgen.training.data import number_ids
from lightgen.training.features_on_disk import open_features
from lightgen.training.preference import CachedReference, PairErrorEstimator, cache_reference
from lightgen.training.texts_on_disk import open_texts
from lightgen.work import Context, MakeShard, Needs, Work, Worker
from schemas.ref import ArtifactRef
from schemas.reference import SCHEMA

STAGE = Stage("reference", "reference", revision=3)

# By name: `auto` may be one precision where the reference is asked, and another where its answers are compared with.
NamedPrecision = Literal["bf16", "fp32", "tf32"]


class ReferenceConfig(Config):
    """How often and under what the reference is asked."""

    draws: int = Field(ge=1, description="masks and noises for each pair")
    noise_copies: int = Field(default=4, ge=1)
    masks: MaskLaw = MaskLaw()
    weights: Weights = "ema"
    precision: NamedPrecision = Field(
        default="fp32",
        description="of matrix products: that of the training, whose errors are compared with these",
        json_schema_extra=QUIET,
    )
    batch_size: int = Field(default=64, ge=1, description="pairs at a time", json_schema_extra=RUN)


def reference(
    checkpoint: ArtifactRef, encoded: ArtifactRef, texts: ArtifactRef, config: ReferenceConfig, context: Context
) -> ArtifactRef:
    """Errors of the checkpoint on both images of every pair, for every draw; the seed is that of the training."""
    source = context.store.open(encoded)
    parents = [checkpoint, encoded, texts]
    plan = STAGE.plan(config, context.seed, parents, source.n_shards)
    needs = Needs(gpu=True, unit="errors", total=source.rows * config.draws)
    return build(Work.of(plan, config, parents, context, f"{__name__}:open", needs), context)


def open(work: Work, worker: Worker) -> MakeShard:
    """Loads the student; see `lightgen.work`."""
    config = ReferenceConfig.model_validate(work.config)
    checkpoint, encoded, texts = map(worker.store.open, work.parents)
    words = open_texts(check_texts(texts, checkpoint_config(checkpoint)))
    student = load_student(checkpoint, config.weights).to(worker.device)
    estimator = PairErrorEstimator(config.noise_copies, work.plan.seed, config.masks, config.draws)

    def make_shard(shard: int) -> ShardOutput:
        ids = encoded.table(shard, columns=["id"])["id"].to_pylist()
        if not ids:
            return ShardOutput(table=SCHEMA.empty_table(), schema=SCHEMA, rows_in=0)
        pairs = open_features(encoded, words, shards=[shard])
        with float32_products(config.precision), mixed_precision(config.precision, student.null_text.device.type):
            cached = cache_reference(student, pairs, estimator, config.batch_size, worker.progress)
        table = _rows(cached, ids)
        return ShardOutput(table=table, schema=SCHEMA, rows_in=table.num_rows)

    return make_shard


def check_texts(texts: Version, checkpoint: CheckpointConfig) -> Version:
    """The texts, if the encoder made them that the student was trained with. Raises ConfigError."""
    made, wanted = read_text_encoding(texts).text, checkpoint.encoders.text
    if made != wanted:
        raise ConfigError(f"{texts.ref} was made with {made}, the student knows texts of {wanted}; make them with that")
    return texts


def check_reference(asked: Version, wanted: ReferenceConfig, parents: Sequence[ArtifactRef], seed: int) -> None:
    """Refuse the errors of another reference than training would ask: an offset in them is no preference.

    `parents` are the checkpoint, the pairs and the texts of the training. Raises ConfigError.
    """
    plan, expected = asked.plan, STAGE.plan(wanted, seed, parents, asked.n_shards)
    for name in ("config", "seed", "parents", "revision"):
        found, needed = getattr(plan, name), getattr(expected, name)
        if found != needed:
            raise ConfigError(
                f"{asked.ref} was asked with {name} {found}, and this training needs {needed}; "
                "make it with stage reference and the settings of AlignConfig.reference"
            )


def read_reference(version: Version) -> CachedReference:
    """The errors of a REFERENCE version, ready for training."""
    table = version.table().sort_by([("pair_id", "ascending"), ("draw", "ascending")])
    draws = len(np.unique(table.column("draw").to_numpy()))
    ids = number_ids(table.column("pair_id").to_pylist()[::draws])
    sides = [torch.from_numpy(table.column(name).to_numpy().copy()) for name in ("winner_error", "loser_error")]
    errors = torch.stack(sides, dim=-1).view(-1, draws, 2)
    order = ids.argsort()
    return CachedReference(ids[order], errors[order])


def _rows(cached: CachedReference, pair_ids: list[str]) -> pa.Table:
    names = dict(zip(number_ids(pair_ids).tolist(), pair_ids, strict=True))
    pairs, draws, _ = cached.table.shape
    named = np.repeat([names[number] for number in cached.ids.tolist()], draws)
    numbers = np.tile(np.arange(draws, dtype=np.int32), pairs)
    columns = {
        "id": [content_id("reference", pair, int(draw)) for pair, draw in zip(named, numbers, strict=True)],
        "pair_id": named.tolist(),
        "draw": numbers,
        "winner_error": cached.table[..., 0].flatten().numpy(),
        "loser_error": cached.table[..., 1].flatten().numpy(),
    }
    return pa.table(columns, schema=SCHEMA)
