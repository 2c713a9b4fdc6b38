"""Stage `encode`: kept images to VAE latent moments and text embeddings; `fit_vae` makes the VAE it uses."""

import json
import logging
from typing import Any, Literal

import pyarrow as pa
import safetensors.torch
import torch
from jaxtyping import UInt8
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from lightgen.encoders import crop, diffusers_vae, features, patch_pca, restore, t5, text, vae, words
from lightgen.encoders.crop import read_square
from lightgen.encoders.features import Encoder
from lightgen.encoders.patch_pca import PatchFit, PatchPcaConfig
from lightgen.encoders.restore import describe_encoders
from lightgen.encoders.t5 import T5Config, t5_identity
from lightgen.encoders.text import TextConfig, load_text
from lightgen.encoders.vae import VaeConfig, load_vae, vae_identity
from lightgen.encoders.words import WordsConfig
from lightgen.errors import ConfigError, StoreCorrupt
from lightgen.progress import SILENT, Progress
from lightgen.settings import Device, pick_device
from lightgen.storage import feature_codec, weights
from lightgen.storage.build import ShardOutput, build, make_plan
from lightgen.storage.pixels import BadImage
from lightgen.storage.store import Store
from lightgen.storage.version import Version
from lightgen.storage.weights import rows_digest, tensor_row, tensor_rows, weights_folder
from schemas import tensors
from schemas.ref import ArtifactRef

log = logging.getLogger(__name__)


class EncodeConfig(BaseModel):
    """Settings of both encoders; `batch` and `device` change the speed and are not part of a version's name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size_px: int = Field(default=256, ge=8, description="side of the square the image is cropped to")
    crop: Literal["adm"] = "adm"
    vae: VaeConfig
    text: TextConfig
    batch: int = Field(default=32, ge=1, description="images at a time through the VAE")
    device: Device = "auto"


def fit_vae(
    kept: ArtifactRef, config: EncodeConfig, store: Store, *, seed: int, progress: Progress = SILENT
) -> ArtifactRef:
    """Fits the VAE on the kept images (`patch_pca`), or seals which pretrained one is used (`diffusers`)."""
    modules = [patch_pca, crop, vae, diffusers_vae, weights]
    plan = make_plan("vae", "fit_vae", modules, config.vae, seed, [kept], 1, models=[vae_identity(config.vae)])

    def make_shard(_: int) -> ShardOutput:
        rows, files = (
            _fitted(store.open(kept), config.vae, store, progress)
            if isinstance(config.vae, PatchPcaConfig)
            else _described(config.vae)
        )
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
    modules = [__name__, features, crop, patch_pca, words, t5, text, vae, diffusers_vae, restore, feature_codec]
    # Neither batch nor device decides what a row holds, so they must not make a second version.
    content = config.model_copy(update={"batch": 1, "device": "auto"})
    models = [vae_identity(config.vae), _text_identity(config.text)]
    plan = make_plan("features", "encode", modules, content, seed, [kept, vae_ref], source.n_shards, models=models)
    done = store.find_sealed(plan)
    if done:
        return done
    device = pick_device(config.device)
    worker = Encoder(config.size_px, config.batch, load_vae(sealed, device), load_text(config.text, device))
    first = describe_encoders(config.size_px, worker.shape, config.text, worker.text, sealed)
    images = _images(source, store)
    progress.start("encode", source.rows, "images")

    def make_shard(shard: int) -> ShardOutput:
        made = worker.shard(source.table(shard), _wanted(images, source, shard), progress)
        return ShardOutput(made.table, made.rejects, made.rows_in, files={"encoders.json": first} if shard == 0 else {})

    ref = build(store, plan, make_shard, worker.schema)
    progress.finish()
    return ref


def _same_vae(sealed: Version, config: EncodeConfig) -> None:
    described = json.loads(sealed.file("vae.json").read_text(encoding="utf-8"))["config"]
    given = config.vae.model_dump(mode="json")
    if described != given:
        raise ConfigError(f"{sealed.ref} was made with {described}, encode.vae says {given}; give both stages the same")


def _text_identity(config: WordsConfig | T5Config) -> dict[str, Any]:
    return t5_identity(config) if isinstance(config, T5Config) else {"kind": config.kind}


def _images(kept: Version, store: Store) -> Version:
    found = [parent for parent in kept.parents if parent.kind == "images"]
    if not found:
        raise StoreCorrupt(f"{kept.ref} has no images among its parents; it was not written by stage dedup")
    return store.open(found[0])


def _wanted(images: Version, kept: Version, shard: int, only: set[str] | None = None) -> dict[str, bytes]:
    """Bytes of the shard's kept images by id; of those in `only` where given."""
    ids = set(kept.table(shard, columns=["id"]).column("id").to_pylist())
    ids = ids if only is None else ids & only
    found = {id: _image_bytes(members) for id, members in images.samples(shard) if id in ids} if ids else {}
    missing = sorted(ids - found.keys())
    if missing:
        raise StoreCorrupt(f"{images.ref} shard {shard}: image {missing[0]} of {kept.ref} is not there")
    return found


def _image_bytes(members: dict[str, bytes]) -> bytes:
    return next(data for extension, data in members.items() if extension != "json")


def _fitted(
    kept: Version, config: PatchPcaConfig, store: Store, progress: Progress
) -> tuple[list[dict[str, str]], dict[str, bytes]]:
    squares = _fit_squares(kept, config, store, progress)
    fitted = patch_pca.fit((images for images in squares.values()), config)
    named = fitted.vae.tensors()
    described = {
        "kind": config.kind,
        "config": config.model_dump(mode="json"),
        "images": len(next(iter(squares.values()))),
        "patches": fitted.patches,
        "explained_variance": round(fitted.explained, 6),
        "psnr_db": {str(size): _psnr(fitted, images) for size, images in squares.items()},
    }
    log.info("patch_pca keeps %.4f of the variance, PSNR %s dB", fitted.explained, described["psnr_db"])
    rows = [tensor_row(name, tensor) for name, tensor in sorted(named.items())]
    files = {"vae.safetensors": safetensors.torch.save(named), "vae.json": json.dumps(described, indent=1).encode()}
    return rows, files


def _fit_squares(
    kept: Version, config: PatchPcaConfig, store: Store, progress: Progress
) -> dict[int, UInt8[Tensor, "n size size 3"]]:
    """The fitted images at every resolution; those of the smallest ids, which are hashes and so a fair sample."""
    ids = sorted(kept.table(columns=["id"]).column("id").to_pylist())[: config.fit_images]
    if not ids:
        raise ConfigError(f"{kept.ref} has no rows: nothing to fit a VAE on")
    images = _images(kept, store)
    squares: dict[int, list[Tensor]] = {size: [] for size in config.fit_sizes_px}
    progress.start("fit vae", len(ids), "images")
    for shard in range(kept.n_shards):
        found = _wanted(images, kept, shard, set(ids))
        for data in found.values():
            for size in config.fit_sizes_px:
                square = read_square(data, size)
                if not isinstance(square, BadImage):
                    squares[size].append(square)
        progress.advance(len(found))
    progress.finish()
    if not squares[config.fit_sizes_px[0]]:
        raise ConfigError(f"{kept.ref}: none of its images can be decoded, so there is nothing to fit a VAE on")
    return {size: torch.stack(group) for size, group in squares.items()}


def _psnr(fitted: PatchFit, images: UInt8[Tensor, "n size size 3"]) -> float:
    """Peak signal to noise of the stored (float16) latents, in dB, over up to 256 images."""
    some = images[:256]
    mean, _ = fitted.vae.encode(some)
    error = (fitted.vae.decode(mean.half().float()).double() - some.double()).square().mean()
    return round(float(10 * torch.log10(255.0**2 / error.clamp(min=1e-10))), 2)


def _described(config: diffusers_vae.DiffusersVaeConfig) -> tuple[list[dict[str, str]], dict[str, bytes]]:
    """Rows of the foreign weights and which they are; the weights themselves stay where they lie."""
    rows = tensor_rows(weights_folder(config))
    described = {"kind": config.kind, "config": config.model_dump(mode="json"), "sha256": rows_digest(rows)}
    return rows, {"vae.json": json.dumps(described, indent=1).encode()}
