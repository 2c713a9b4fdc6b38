"""KEPT + IMAGES + VAE -> FEATURES: VAE latent moments and text embeddings of every kept image.

A map. Memory: the decoded images and features of one shard.
"""

import json
from dataclasses import replace
from typing import Literal

from pydantic import Field

from lightgen.config import RUN, Config
from lightgen.encoders.features import Encoder
from lightgen.encoders.image_files import files_of
from lightgen.encoders.restore import FILE, Encoders
from lightgen.encoders.t5 import T5Config
from lightgen.encoders.text import TextConfig
from lightgen.encoders.vae import VaeConfig, load_vae, read_identity
from lightgen.engines.build import build
from lightgen.errors import ConfigError
from lightgen.storage.locations import remember
from lightgen.storage.plans import Stage
from lightgen.storage.shards import ShardOutput
from lightgen.work import Context, MakeShard, Needs, Work, Worker
from schemas.ref import ArtifactRef

STAGE = Stage("encode", "features", revision=1)


class EncodeConfig(Config):
    """Settings of both encoders."""

    size_px: int = Field(default=256, ge=8, description="side of the square the image is cropped to")
    crop: Literal["adm"] = "adm"
    vae: VaeConfig
    text: TextConfig
    flips: Literal["off", "safe"] = Field(
        default="off",
        description="safe: mirrored latents too, where a caption knows no sides; training reads half",
    )
    batch: int = Field(default=32, ge=1, description="images at a time through the VAE", json_schema_extra=RUN)
    max_reject_fraction: float = Field(
        default=0.05, ge=0, le=1, description="more rejects than this end the stage", json_schema_extra=RUN
    )


def encode(
    kept: ArtifactRef, images: ArtifactRef, vae: ArtifactRef, config: EncodeConfig, context: Context
) -> ArtifactRef:
    """Features of every kept image, in shards of the images; rows that are not finite are rejected."""
    source, sealed = context.store.open(kept), context.store.open(vae)
    wanted, made = config.vae.identity(), read_identity(sealed)
    if json.loads(json.dumps(wanted)) != made:
        raise ConfigError(f"{sealed.ref} was made with {made}, encode.vae says {wanted}; give both stages the same")
    if isinstance(config.text, T5Config):
        remember(context.store, config.text)
    parents = [kept, images, vae]
    plan = STAGE.plan(config, context.seed, parents, source.n_shards)
    needs = Needs(gpu=config.vae.wants_gpu or config.text.wants_gpu, unit="images", total=source.rows)
    return build(Work.of(plan, config, parents, context, f"{__name__}:open", needs), context)


def open(work: Work, worker: Worker) -> MakeShard:
    """Loads both encoders; see `lightgen.work`."""
    config = EncodeConfig.model_validate(work.config)
    kept, images, vae = map(worker.store.open, work.parents)
    encoder = Encoder(
        config.size_px,
        config.batch,
        load_vae(vae, worker.store, worker.device),
        config.text.open(worker.device),
        config.flips == "safe",
    )
    encoders = Encoders(
        size_px=config.size_px,
        latent_shape=encoder.shape,
        text_dim=encoder.text.dim,
        vae=vae.ref.content,
        text=config.text.identity(),
    )

    def make_shard(shard: int) -> ShardOutput:
        rows = kept.table(shard)
        made = encoder.shard(rows, files_of(images, shard, set(rows["id"].to_pylist())), worker.progress)
        return replace(made, files={FILE: encoders.file()}) if shard == 0 else made

    return make_shard
