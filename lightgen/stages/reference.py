"""CHECKPOINT + PAIR_FEATURES -> REFERENCE: what DPO's frozen reference says of every pair, asked once for all steps."""

import numpy as np
import pyarrow as pa
import torch
from pydantic import BaseModel, ConfigDict, Field

import lightgen.model
import lightgen.training
from lightgen.model.masking import MaskLaw
from lightgen.model.restore import Weights, load_student
from lightgen.progress import SILENT, Progress
from lightgen.seeds import content_id
from lightgen.settings import Device, pick_device
from lightgen.storage.build import ShardOutput, build, make_plan
from lightgen.storage.store import Store
from lightgen.storage.version import Version
from lightgen.training.data import number_ids
from lightgen.training.features_on_disk import open_features
from lightgen.training.preference import CachedReference, PairErrorEstimator, cache_reference
from schemas.ref import ArtifactRef
from schemas.reference import SCHEMA


class ReferenceConfig(BaseModel):
    """How often and under what the reference is asked."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    draws: int = Field(ge=1, description="masks and noises for each pair")
    noise_copies: int = Field(default=4, ge=1)
    masks: MaskLaw = MaskLaw()
    weights: Weights = "ema"
    batch_size: int = Field(default=64, ge=1, description="pairs at a time")
    device: Device = "auto"

    def content(self) -> "ReferenceConfig":
        """Without what changes only the speed."""
        return self.model_copy(update={"batch_size": 1, "device": "auto"})


def reference(
    checkpoint: ArtifactRef,
    encoded: ArtifactRef,
    config: ReferenceConfig,
    store: Store,
    *,
    seed: int,
    progress: Progress = SILENT,
) -> ArtifactRef:
    """Errors of the checkpoint on both images of every pair, for every draw; `seed` is that of the training."""
    modules = [lightgen.model, lightgen.training, __name__]
    plan = make_plan("reference", "reference", modules, config.content(), seed, [checkpoint, encoded], n_shards=1)

    def make_shard(_: int) -> ShardOutput:
        source = store.open(encoded)
        student = load_student(store.open(checkpoint), config.weights).to(pick_device(config.device))
        estimator = PairErrorEstimator(config.noise_copies, seed, config.masks, config.draws)
        cached = cache_reference(student, open_features(source), estimator, config.batch_size, progress)
        table = _rows(cached, source.table(columns=["id"]).column("id").to_pylist())
        return ShardOutput(table=table, rows_in=table.num_rows)

    return build(store, plan, make_shard, SCHEMA, progress=progress, unit="errors")


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
