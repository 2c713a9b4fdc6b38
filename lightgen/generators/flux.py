"""Teacher `flux`: a FLUX.1 pipeline of diffusers, from a local folder or a pinned revision of the hub.

Only safetensors are loaded and no code of a repository runs. The noise of each sample comes from its own generator on
the CPU, so it depends on the seed alone: neither on the batch nor on the device.
"""

import hashlib
import json
import logging
from collections.abc import Sequence
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from lightgen.errors import ConfigError, ModelError
from lightgen.generators.base import TeacherFailure
from lightgen.settings import Device, pick_device
from lightgen.storage.weights import Weights, weights_folder, weights_identity
from schemas.canonical import canonical_json

log = logging.getLogger(__name__)

WEIGHTS = ("transformer", "text_encoder", "text_encoder_2", "vae")
SETTINGS = ("scheduler", "tokenizer", "tokenizer_2")
# FLUX packs 2 x 2 latents, each of 8 x 8 pixels, into one token.
TOKEN_PX = 16


class FluxConfig(BaseModel):
    """The teacher of the paper; the steps and guidance are those of the model card of FLUX.1-dev."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    kind: Literal["flux"] = "flux"
    model: str = Field(
        default="black-forest-labs/FLUX.1-dev", min_length=1, description="local folder, or owner/name on the hub"
    )
    revision: str | None = Field(default=None, description="commit of the hub repository, 40 hex digits")
    steps: int = Field(default=28, ge=1)
    guidance: float = Field(default=3.5, ge=0, description="distilled guidance; FLUX.1-schnell wants 0")
    max_tokens: int = Field(default=512, ge=1, le=512, description="T5 tokens of a caption; FLUX.1-schnell wants 256")
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    device: Device = "auto"
    offload: Literal["none", "model", "sequential"] = Field(
        default="none", description="keep on the GPU everything, one model at a time, or one layer at a time"
    )

    def content(self) -> "FluxConfig":
        """Without what changes the speed only: device and offload are no part of a version's name."""
        return self.model_copy(update={"device": "auto", "offload": "none"})


class FluxTeacher:
    """Paints captions with FLUX.1; the weights are loaded when the first image is asked for."""

    def __init__(self, config: FluxConfig) -> None:
        self.config = config

    def identity(self) -> dict[str, Any]:
        """Weights, sampler settings and versions of the libraries. Raises ConfigError or ModelError; loads nothing."""
        config = self.config
        where = _local_identity(config) if _is_local(config) else weights_identity(_part(config, ""))
        return {
            "kind": "flux",
            "model": Path(config.model).name if _is_local(config) else config.model,
            **where,
            **config.model_dump(include={"steps", "guidance", "max_tokens", "dtype"}),
            "libraries": {name: version(name) for name in ("diffusers", "torch", "transformers")},
        }

    def generate(
        self, captions: Sequence[str], seeds: Sequence[int], size_px: int
    ) -> list[np.ndarray | TeacherFailure]:
        """One uint8 [size_px, size_px, 3] image for each caption, or `nonfinite` where the model overflowed."""
        import torch

        if size_px % TOKEN_PX:
            raise ConfigError(f"generate.size_px {size_px}: teacher flux paints multiples of {TOKEN_PX} px")
        try:
            images = self._pipeline(
                prompt=list(captions),
                height=size_px,
                width=size_px,
                num_inference_steps=self.config.steps,
                guidance_scale=self.config.guidance,
                max_sequence_length=self.config.max_tokens,
                generator=[torch.Generator("cpu").manual_seed(seed) for seed in seeds],
                output_type="np",
            ).images
        except torch.OutOfMemoryError as error:
            raise ModelError(
                f"the GPU has no memory for {len(captions)} images of {size_px} px ({str(error)[:200]}); lower "
                "generate.batch or set generate.teacher.offload to model"
            ) from None
        return [_as_pixels(image) for image in images]

    @cached_property
    def _pipeline(self) -> Any:
        import torch
        from diffusers.pipelines.flux.pipeline_flux import FluxPipeline
        from safetensors import SafetensorError

        config = self.config
        log.info("loading %s", config.model)
        try:
            pipeline = FluxPipeline.from_pretrained(
                str(Path(config.model).expanduser()) if _is_local(config) else config.model,
                revision=config.revision,
                dtype=getattr(torch, config.dtype),
                use_safetensors=True,
            )
        except (OSError, ValueError, SafetensorError) as error:
            raise ModelError(
                f"model {config.model} cannot be loaded: {type(error).__name__}: {str(error)[:400]}; it must be a "
                "FluxPipeline saved as safetensors; check the folder, or the network, your licence and token of the hub"
            ) from error
        pipeline.set_progress_bar_config(disable=True)
        return _placed(pipeline, config)


def _placed(pipeline: Any, config: FluxConfig) -> Any:
    device = pick_device(config.device)
    if config.offload == "none":
        return pipeline.to(device)
    if device == "cpu":
        raise ConfigError(f"generate.teacher.offload {config.offload}: there is no GPU to offload from; say none")
    if config.offload == "model":
        pipeline.enable_model_cpu_offload(device=device)
    else:
        pipeline.enable_sequential_cpu_offload(device=device)
    return pipeline


def _as_pixels(image: np.ndarray) -> np.ndarray | TeacherFailure:
    """[H, W, 3] floats of 0 to 1 as bytes."""
    bad = int(np.count_nonzero(~np.isfinite(image)))
    if bad:
        return TeacherFailure(
            "nonfinite", f"{bad} of {image.size} values are not finite; try dtype bfloat16 or float32"
        )
    return (image.clip(0, 1) * 255).round().astype(np.uint8)


def _is_local(config: FluxConfig) -> bool:
    return Path(config.model).expanduser().is_dir()


def _part(config: FluxConfig, subfolder: str) -> Weights:
    return Weights(model=config.model, revision=config.revision, subfolder=subfolder)


def _local_identity(config: FluxConfig) -> dict[str, Any]:
    """Digests of all weights, and one of the scheduler, tokenizers and configs beside them."""
    root = Path(config.model).expanduser()
    _check_pipeline(root)
    for name in WEIGHTS:
        weights_folder(_part(config, name))  # first the quick checks of all, then gigabytes are read
    return {
        "weights": {name: weights_identity(_part(config, name))["sha256"] for name in WEIGHTS},
        "settings": _settings_digest(root),
    }


def _check_pipeline(root: Path) -> None:
    try:
        index = json.loads((root / "model_index.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{root}: no model_index.json to read ({error}); give a folder saved by FluxPipeline.save_pretrained"
        ) from None
    found = index.get("_class_name") if isinstance(index, dict) else index
    if found != "FluxPipeline":
        raise ModelError(f"{root} holds a {found!r}; teacher flux needs a FluxPipeline")
    foreign = [key for key, value in index.items() if isinstance(value, list) and value[0] not in _LIBRARIES]
    if foreign:
        raise ConfigError(
            f"RemoteCodeRefused: {root}/model_index.json takes {foreign[0]!r} from {index[foreign[0]][0]!r}, which is "
            "code of the repository; use a model made of diffusers and transformers parts only"
        )


_LIBRARIES = ("diffusers", "transformers", None)


def _settings_digest(root: Path) -> str:
    files = [root / "model_index.json"]
    files += [path for name in WEIGHTS + SETTINGS for path in sorted((root / name).glob("*")) if path.is_file()]
    rows = [
        [str(path.relative_to(root)), hashlib.sha256(path.read_bytes()).hexdigest()]
        for path in files
        if path.suffix != ".safetensors"
    ]
    return hashlib.sha256(canonical_json(rows)).hexdigest()
