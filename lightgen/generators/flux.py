"""Generator `flux`: a FLUX.1 pipeline of diffusers, from a local folder or a pinned revision of the hub.

Only safetensors are loaded and no code of a repository runs. The noise of each sample comes from its own generator on
the CPU, so it depends on the seed alone: neither on the batch nor on the device.
"""

import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field

from lightgen.config import RUN
from lightgen.errors import ConfigError, ModelError
from lightgen.generators.base import Drawn, Failure, GeneratorMember
from lightgen.problems import Problem
from lightgen.storage.weights import DTYPE_BYTES, Weights, folder_here, is_local, pinned
from lightgen.work import Work, Worker

log = logging.getLogger(__name__)

PARTS = ("transformer", "text_encoder", "text_encoder_2", "vae")
Offload = Literal["none", "model", "sequential"]
LIBRARIES = ("diffusers", "transformers", None)
# Parameters of FLUX.1, dev and schnell alike: the transformer, and all parts (with T5-XXL, CLIP-L and the VAE).
TRANSFORMER, PARAMETERS = 12e9, 17e9
# FLUX packs 2 x 2 latents, each of 8 x 8 pixels, into one token.
TOKEN_PX = 16


class FluxConfig(Weights, GeneratorMember):
    """The teacher of the paper; the steps and guidance are those of the model card of FLUX.1-dev."""

    kind: Literal["flux"] = "flux"
    model: str = Field(
        default="black-forest-labs/FLUX.1-dev", min_length=1, description="local folder, or owner/name on the hub"
    )
    steps: int = Field(default=28, ge=1, description="of denoising")
    guidance: float = Field(default=3.5, ge=0, description="distilled guidance; FLUX.1-schnell wants 0")
    max_tokens: int = Field(default=512, ge=1, le=512, description="T5 tokens of a caption; FLUX.1-schnell wants 256")
    dtype: Literal["bfloat16", "float16", "float32"] = Field(default="bfloat16", description="of weights and products")
    offload: Offload = Field(
        default="none",
        description="keep on the GPU everything, one model at a time, or one layer at a time",
        json_schema_extra=RUN,
    )

    @property
    def folders(self) -> tuple[str, ...]:
        """The whole pipeline."""
        return ("",)

    @property
    def models(self) -> tuple[str, ...]:
        """See `Weights.models`."""
        return PARTS

    @property
    def wants_gpu(self) -> bool:
        """See `GeneratorMember.wants_gpu`."""
        return True

    @property
    def journals(self) -> bool:
        """See `GeneratorMember.journals`."""
        return True

    @property
    def multiple_px(self) -> int:
        """See `GeneratorMember.multiple_px`."""
        return TOKEN_PX

    def flops(self, height_px: int, width_px: int) -> float:
        """See `GeneratorMember.flops`: a multiply-add a parameter of the transformer, for each token and step."""
        here = self.bytes_here("transformer")
        parameters = TRANSFORMER if here is None else here / 2
        return 2 * parameters * (self.max_tokens + height_px * width_px / TOKEN_PX**2) * self.steps

    @property
    def weight_bytes(self) -> float:
        """See `GeneratorMember.weight_bytes`."""
        return self.bytes_here() or DTYPE_BYTES[self.dtype] * PARAMETERS

    def problems(self) -> Iterator[Problem]:
        """See `Config.problems`."""
        yield from super().problems()
        folder = folder_here(self)
        if folder is None:
            return
        try:
            _check_pipeline(folder)
        except (ConfigError, ModelError) as error:
            yield Problem("here", "model", str(error), "give another folder")

    def rehearse(self, folder: Path) -> Self:
        """See `Config.rehearse`: a FLUX.1 of 100,000 parameters that takes two steps."""
        from lightgen.generators.tiny_flux import tiny_flux

        own = self.own_folder(folder)
        model = str(own if own.exists() else tiny_flux(own))
        return self.model_copy(update={"model": model, "revision": None, "steps": min(self.steps, 2)})

    def content(self) -> dict[str, Any]:
        """Settings and weights. Raises ConfigError or ModelError; loads nothing."""
        if is_local(self):
            _check_pipeline(Path(self.model).expanduser())
        return super().content()

    def open(self, work: Work, worker: Worker) -> "FluxGenerator":
        """See `GeneratorMember.open`. Raises ConfigError, ModelError."""
        return FluxGenerator(self, _load(self, worker.device))


class FluxGenerator:
    """Draws captions with FLUX.1."""

    def __init__(self, config: FluxConfig, pipeline: Any) -> None:
        self.config, self.pipeline = config, pipeline

    def generate(self, captions: Sequence[str], seeds: Sequence[int], height_px: int, width_px: int) -> list[Drawn]:
        """See `Generator.generate`; `nonfinite` where the model overflowed."""
        import torch

        if height_px % TOKEN_PX or width_px % TOKEN_PX:
            raise ConfigError(f"generate: {width_px} x {height_px} px: flux draws multiples of {TOKEN_PX} px")
        try:
            images = self.pipeline(
                prompt=list(captions),
                height=height_px,
                width=width_px,
                num_inference_steps=self.config.steps,
                guidance_scale=self.config.guidance,
                max_sequence_length=self.config.max_tokens,
                generator=[torch.Generator("cpu").manual_seed(seed) for seed in seeds],
                output_type="np",
            ).images
        except torch.OutOfMemoryError as error:
            raise ModelError(
                f"the GPU has no memory for {len(captions)} images of {width_px} x {height_px} px "
                f"({str(error)[:200]}); lower generate.batch or set generate.generator.offload to model"
            ) from None
        return [as_pixels(image) for image in images]


def _load(config: FluxConfig, device: str) -> Any:
    import torch
    from diffusers.pipelines.flux.pipeline_flux import FluxPipeline
    from diffusers.utils.logging import disable_progress_bar
    from safetensors import SafetensorError

    disable_progress_bar()  # of loading: each worker of a stage would draw one
    log.info("loading %s", config.model)
    try:
        pipeline = FluxPipeline.from_pretrained(
            str(Path(config.model).expanduser()) if is_local(config) else config.model,
            revision=None if is_local(config) else pinned(config),
            dtype=getattr(torch, config.dtype),
            use_safetensors=True,
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(
            f"model {config.model} cannot be loaded: {type(error).__name__}: {str(error)[:400]}; it must be a "
            "FluxPipeline saved as safetensors; check the folder, or the network, your licence and token of the hub"
        ) from error
    pipeline.set_progress_bar_config(disable=True)
    return placed(pipeline, config.offload, device)


def placed(pipeline: Any, offload: Offload, device: str) -> Any:
    """The pipeline on the device, whole or a part at a time. Raises ConfigError where there is no GPU to spare."""
    if offload == "none":
        return pipeline.to(device)
    if device == "cpu":
        raise ConfigError(f"generate.generator.offload {offload}: there is no GPU to offload from; say none")
    if offload == "model":
        pipeline.enable_model_cpu_offload(device=device)
    else:
        pipeline.enable_sequential_cpu_offload(device=device)
    return pipeline


def as_pixels(image: np.ndarray) -> Drawn:
    """[H, W, 3] floats of 0 to 1 as bytes; an image with any value that is not finite is none."""
    bad = int(np.count_nonzero(~np.isfinite(image)))
    if bad:
        return Failure("nonfinite", f"{bad} of {image.size} values are not finite; try dtype bfloat16 or float32")
    return (image.clip(0, 1) * 255).round().astype(np.uint8)


def _check_pipeline(root: Path) -> None:
    try:
        index = json.loads((root / "model_index.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{root}: no model_index.json to read ({error}); give a folder saved by FluxPipeline.save_pretrained"
        ) from None
    found = index.get("_class_name") if isinstance(index, dict) else index
    if found != "FluxPipeline":
        raise ModelError(f"{root} holds a {found!r}; generator flux needs a FluxPipeline")
    foreign = [key for key, value in index.items() if isinstance(value, list) and value[0] not in LIBRARIES]
    if foreign:
        raise ConfigError(
            f"RemoteCodeRefused: {root}/model_index.json takes {foreign[0]!r} from {index[foreign[0]][0]!r}, which is "
            "code of the repository; use a model made of diffusers and transformers parts only"
        )
