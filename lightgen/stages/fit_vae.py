"""KEPT + IMAGES -> VAE: fits the VAE on kept images (`patch_pca`), or seals which pretrained one is used (`diffusers`).

A job. Memory: a batch of images, and sums over their patches.
"""

import pyarrow as pa

from lightgen.config import Config
from lightgen.encoders.diffusers_vae import DiffusersVaeConfig
from lightgen.encoders.fit import fit_or_describe
from lightgen.encoders.vae import VaeConfig
from lightgen.engines.build import build
from lightgen.storage.locations import remember
from lightgen.storage.plans import Stage
from lightgen.storage.shards import ShardOutput
from lightgen.work import Context, MakeShard, Needs, Work, Worker
from schemas.ref import ArtifactRef
from schemas.tensors import SCHEMA

STAGE = Stage("fit_vae", "vae", revision=1)


class FitVaeConfig(Config):
    """Which VAE."""

    vae: VaeConfig


def fit_vae(kept: ArtifactRef, images: ArtifactRef, config: FitVaeConfig, context: Context) -> ArtifactRef:
    """One version: the VAE's tensors as rows, and `vae.json` that names it."""
    if isinstance(config.vae, DiffusersVaeConfig) and not context.find_only:
        remember(context.store, config.vae)
    parents = [kept, images]
    plan = STAGE.plan(config, context.seed, parents, 1)
    return build(Work.of(plan, config, parents, context, f"{__name__}:open", Needs(sort="job")), context)


def open(work: Work, worker: Worker) -> MakeShard:
    """See `lightgen.work`."""
    config = FitVaeConfig.model_validate(work.config)
    kept, images = map(worker.store.open, work.parents)

    def make_shard(_: int) -> ShardOutput:
        rows, files, extras = fit_or_describe(kept, images, config.vae, worker.progress)
        table = pa.Table.from_pylist(rows, schema=SCHEMA)
        return ShardOutput(table=table, schema=SCHEMA, rows_in=len(rows), files=files, extras=extras)

    return make_shard
