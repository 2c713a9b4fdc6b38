"""Stage `encode`: kept images to VAE latent moments and text embeddings; `fit_vae` makes the VAE it uses."""

import json
from dataclasses import replace
from typing import Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from lightgen.encoders import (
    crop,
    diffusers_vae,
    features,
    fit,
    kept_images,
    mirror,
    patch_pca,
    restore,
    t5,
    text,
    vae,
    words,
)
from lightgen.encoders.features import Encoder
from lightgen.encoders.fit import fit_or_describe
from lightgen.encoders.kept_images import images_of, read_shard
from lightgen.encoders.restore import describe_encoders
from lightgen.encoders.text import TextConfig, load_text, text_identity
from lightgen.encoders.vae import VaeConfig, load_vae, vae_identity
from lightgen.errors import ConfigError
from lightgen.progress import SILENT, Progress
from lightgen.settings import Device, pick_device
from lightgen.storage import feature_codec, weights
from lightgen.storage.build import ShardOutput, build, finished, make_plan, rows_done
from lightgen.storage.store import Store
from lightgen.storage.version import Version
from schemas import tensors
from schemas.ref import ArtifactRef


class EncodeConfig(BaseModel):
    """Settings of both encoders."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size_px: int = Field(default=256, ge=8, description="side of the square the image is cropped to")
    crop: Literal["adm"] = "adm"
    vae: VaeConfig
    text: TextConfig
    flips: Literal["off", "safe"] = Field(
        default="off",
        description="safe: mirrored latents too, where a caption knows no sides; training reads half",
    )
    batch: int = Field(default=32, ge=1, description="images at a time through the VAE")
    device: Device = "auto"
    max_reject_fraction: float = Field(default=0.05, ge=0, le=1, description="more rejects than this end the stage")

    def content(self) -> "EncodeConfig":
        """Without what changes only the speed, or whether the result is accepted."""
        return self.model_copy(update={"batch": 1, "device": "auto", "max_reject_fraction": 1.0})


def fit_vae(
    kept: ArtifactRef, config: EncodeConfig, store: Store, *, seed: int, progress: Progress = SILENT
) -> ArtifactRef:
    """Fits the VAE on the kept images (`patch_pca`), or seals which pretrained one is used (`diffusers`)."""
    modules = [fit, kept_images, patch_pca, crop, vae, diffusers_vae, weights]
    plan = make_plan("vae", "fit_vae", modules, config.vae, seed, [kept], 1, models=[vae_identity(config.vae)])

    def make_shard(_: int) -> ShardOutput:
        rows, files = fit_or_describe(store.open(kept), config.vae, store, progress)
        return ShardOutput(table=pa.Table.from_pylist(rows, schema=tensors.SCHEMA), rows_in=len(rows), files=files)

    return build(store, plan, make_shard, tensors.SCHEMA)


def encode(
    kept: ArtifactRef,
    vae_ref: ArtifactRef,
    config: EncodeConfig,
    store: Store,
    *,
    seed: int,
    progress: Progress = SILENT,
) -> ArtifactRef:
    """Latent moments and text embeddings of every kept image; rows that are not finite are rejected."""
    source, sealed = store.open(kept), store.open(vae_ref)
    _same_vae(sealed, config)
    modules = [
        __name__,
        features,
        crop,
        patch_pca,
        words,
        t5,
        text,
        vae,
        diffusers_vae,
        restore,
        kept_images,
        mirror,
        feature_codec,
    ]
    models = [vae_identity(config.vae), text_identity(config.text)]
    plan = make_plan(
        "features", "encode", modules, config.content(), seed, [kept, vae_ref], source.n_shards, models=models
    )
    if done := finished(store, plan):
        return done
    device = pick_device(config.device)
    worker = Encoder(
        config.size_px, config.batch, load_vae(sealed, device), load_text(config.text, device), config.flips == "safe"
    )
    first = describe_encoders(config.size_px, worker.shape, config.text, worker.text, sealed)
    images = images_of(source, store)
    progress.start("encode", source.rows, "images", rows_done(store, plan))

    def make_shard(shard: int) -> ShardOutput:
        made = worker.shard(source.table(shard), read_shard(images, source, shard), progress)
        return replace(made, files={"encoders.json": first}) if shard == 0 else made

    ref = build(store, plan, make_shard, worker.schema, max_reject_fraction=config.max_reject_fraction)
    progress.finish()
    return ref


def _same_vae(sealed: Version, config: EncodeConfig) -> None:
    described = json.loads(sealed.file("vae.json").read_text(encoding="utf-8"))["config"]
    given = config.vae.model_dump(mode="json")
    if described != given:
        raise ConfigError(f"{sealed.ref} was made with {described}, encode.vae says {given}; give both stages the same")
