"""Generator `flux`: a FLUX.1 pipeline of diffusers, from a local folder or a pinned revision of the hub.

Loaded and asked as `lightgen.generators.pipelines` says.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field

from lightgen.errors import ConfigError, ModelError
from lightgen.generators.base import Drawn
from lightgen.generators.pipelines import (
    LIBRARIES,
    PipelineMember,
    as_pixels,
    call,
    foreign_code,
    loaded,
    read_index,
)
from lightgen.storage.weights import DTYPE_BYTES, is_local
from lightgen.work import Work, Worker

PARTS = ("transformer", "text_encoder", "text_encoder_2", "vae")
# Parameters of FLUX.1, dev and schnell alike: the transformer, and all parts (with T5-XXL, CLIP-L and the VAE).
TRANSFORMER, PARAMETERS = 12e9, 17e9
# FLUX packs 2 x 2 latents, each of 8 x 8 pixels, into one token.
TOKEN_PX = 16


class FluxConfig(PipelineMember):
    """The teacher of the paper; the steps and guidance are those of the model card of FLUX.1-dev."""

    kind: Literal["flux"] = "flux"
    model: str = Field(
        default="black-forest-labs/FLUX.1-dev", min_length=1, description="local folder, or owner/name on the hub"
    )
    steps: int = Field(default=28, ge=1, description="of denoising")
    guidance: float = Field(default=3.5, ge=0, description="distilled guidance; FLUX.1-schnell wants 0")
    max_tokens: int = Field(default=512, ge=1, le=512, description="T5 tokens of a caption; FLUX.1-schnell wants 256")

    @property
    def models(self) -> tuple[str, ...]:
        """See `Weights.models`."""
        return PARTS

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

    def look(self, root: Path) -> None:
        """See `Weights.look`."""
        _check_pipeline(root)
        super().look(root)

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
        if height_px % TOKEN_PX or width_px % TOKEN_PX:
            raise ConfigError(f"generate: {width_px} x {height_px} px: flux draws multiples of {TOKEN_PX} px")
        told = {"guidance_scale": self.config.guidance, "max_sequence_length": self.config.max_tokens}
        steps = self.config.steps
        made = call(self.pipeline, captions, seeds, height_px, width_px, num_inference_steps=steps, **told)
        return [as_pixels(image) for image in made.images]


def _load(config: FluxConfig, device: str) -> Any:
    from diffusers.pipelines.flux.pipeline_flux import FluxPipeline

    return loaded(config, device, "FluxPipeline", FluxPipeline, _check_pipeline)


def _check_pipeline(root: Path) -> None:
    index = read_index(root, "FluxPipeline.save_pretrained")
    found = index.get("_class_name")
    if found != "FluxPipeline":
        raise ModelError(f"{root} holds a {found!r}; generator flux needs a FluxPipeline")
    foreign = [key for key, value in index.items() if isinstance(value, list) and value[0] not in LIBRARIES]
    if foreign:
        raise foreign_code(root, foreign[0], index[foreign[0]][0])
