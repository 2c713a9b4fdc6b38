"""Rows and files of a `vae` version: a patch PCA fitted on kept images, or which pretrained VAE is used."""

import json
import logging
from collections.abc import Iterator

import safetensors.torch
import torch
from jaxtyping import UInt8
from torch import Tensor

from lightgen.config import Member
from lightgen.encoders import patch_pca
from lightgen.encoders.crop import read_square
from lightgen.encoders.diffusers_vae import DiffusersVaeConfig
from lightgen.encoders.image_files import files_of
from lightgen.encoders.patch_pca import PatchPca, PatchPcaConfig
from lightgen.encoders.vae import DESCRIPTION, WEIGHTS
from lightgen.errors import ConfigError
from lightgen.progress import Progress
from lightgen.storage.pixels import BadImage
from lightgen.storage.version import Version
from lightgen.storage.weights import tensor_row, tensor_rows, weights_folder

Sealed = tuple[list[dict[str, str]], dict[str, bytes], dict[str, bytes]]
SAMPLE, BATCH = 256, 64
log = logging.getLogger(__name__)


def fit_or_describe(
    kept: Version, images: Version, config: PatchPcaConfig | DiffusersVaeConfig, progress: Progress
) -> Sealed:
    """Tensor rows, content files and extras of the VAE; foreign weights are named by digest and stay where they lie."""
    if isinstance(config, PatchPcaConfig):
        return _fit(kept, images, config, progress)
    return describe(config)


def describe(config: DiffusersVaeConfig) -> Sealed:
    """A pretrained VAE by its tensors' digests; its weights stay where they lie. Raises ConfigError, ModelError."""
    return tensor_rows(weights_folder(config)), {DESCRIPTION: _described(config)}, {}


def _described(config: Member) -> bytes:
    return json.dumps({"identity": config.identity()}, indent=1, sort_keys=True).encode()


def _fit(kept: Version, images: Version, config: PatchPcaConfig, progress: Progress) -> Sealed:
    sample: dict[int, list[Tensor]] = {size: [] for size in config.fit_sizes_px}
    fitted = patch_pca.fit(_squares(kept, images, config, progress, sample), config)
    named = fitted.vae.tensors()
    figures = {
        "patches": fitted.patches,
        "explained_variance": round(fitted.explained, 6),
        "psnr_db": {str(size): _psnr(fitted.vae, torch.stack(some)) for size, some in sample.items()},
    }
    log.info("patch_pca keeps %.4f of the variance, PSNR by size %s dB", fitted.explained, figures["psnr_db"])
    rows = [tensor_row(name, tensor) for name, tensor in sorted(named.items())]
    files = {WEIGHTS: safetensors.torch.save(named), DESCRIPTION: _described(config)}
    return rows, files, {"fit.json": json.dumps(figures, indent=1).encode()}


def _squares(
    kept: Version, images: Version, config: PatchPcaConfig, progress: Progress, sample: dict[int, list[Tensor]]
) -> Iterator[UInt8[Tensor, "b size size 3"]]:
    """Batches of the images to fit at every resolution; the first of each size also go to `sample`."""
    # Ids are hashes, so the smallest of them are a fair sample, and the same one whatever the order of the rows.
    ids = sorted(kept.table(columns=["id"]).column("id").to_pylist())[: config.fit_images]
    if not ids:
        raise ConfigError(f"{kept.ref} has no rows: nothing to fit a VAE on")
    wanted = set(ids)
    progress.start("fit vae", len(ids), "images")
    for shard in range(kept.n_shards):
        here = set(kept.table(shard, columns=["id"])["id"].to_pylist()) & wanted
        found = list(files_of(images, shard, here).values())
        for start in range(0, len(found), BATCH):
            group = found[start : start + BATCH]
            for size in config.fit_sizes_px:
                read = (read_square(data, size) for data in group)
                # Stage encode rejects the others, with their reason.
                squares = [square for square in read if not isinstance(square, BadImage)]
                sample[size] += squares[: SAMPLE - len(sample[size])]
                if squares:
                    yield torch.stack(squares)
            progress.advance(len(group))
    progress.finish()


def _psnr(vae: PatchPca, images: UInt8[Tensor, "n size size 3"]) -> float:
    """Peak signal to noise ratio after latents are stored as float16, in dB."""
    mean, _ = vae.encode(images)
    error = (vae.decode(mean.half().float()).double() - images.double()).square().mean()
    return round(float(10 * torch.log10(255.0**2 / error.clamp(min=1e-10))), 2)
