"""Generator `diffusers`: any text-to-image pipeline of diffusers, from a local folder or a pinned revision of the hub.

Which pipeline it is stands in the model's own model_index.json. Loaded and asked as `lightgen.generators.pipelines`
says. An image has the very sides that are asked for: no pipeline chooses a nearby size of its own.
"""

import importlib.util
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field

from lightgen.errors import ConfigError, ModelError, ModelIncomplete
from lightgen.generators.base import Drawn, Failure
from lightgen.generators.pipelines import (
    LIBRARIES,
    SAVED,
    PipelineMember,
    as_pixels,
    call,
    foreign_code,
    loaded,
    read_index,
)
from lightgen.problems import Problem
from lightgen.storage.weights import check_model_folder, folder_here, is_local
from lightgen.work import Work, Worker

LATENT_PX = 8  # sides of a latent in most VAEs; what a model here says goes before
NEEDED = ("prompt", "height", "width", "num_inference_steps", "generator", "output_type")
FROM_IMAGES = {"strength", "mask_image", "control_image"}
# Settings, and what pipelines call them.
OPTIONS = {
    "guidance": "guidance_scale",
    "true_guidance": "true_cfg_scale",
    "negative_prompt": "negative_prompt",
    "max_tokens": "max_sequence_length",
}
# What pipelines would do by themselves: another size than asked for, and captions cleaned where a package is installed.
NOT_WANTED = {"use_resolution_binning": False, "clean_caption": False}
MODULE = re.compile(r"[a-z0-9_]+\Z")


class DiffusersConfig(PipelineMember):
    """Which pipeline draws, and how; what the pipeline does not take is refused, and what it needs must be said."""

    kind: Literal["diffusers"] = "diffusers"
    steps: int = Field(ge=1, description="of denoising, as the model card says")
    guidance: float | None = Field(
        default=None, ge=0, description="scale of guidance, as the model card says; null: the pipeline takes none"
    )
    true_guidance: float | None = Field(
        default=None, ge=0, description="`true_cfg_scale` of FLUX and Qwen-Image; null: the pipeline's own"
    )
    negative_prompt: str = Field(default="", description="what no image is to show; needs guidance above 1")
    max_tokens: int | None = Field(
        default=None, ge=1, description="tokens of a caption that are read; null: the pipeline's own limit"
    )

    @property
    def models(self) -> tuple[str, ...]:
        """See `Weights.models`: the parts of a pipeline that is here and have weights."""
        folder = folder_here(self)
        parts = (
            _parts(read_index(folder, SAVED)) if folder is not None and (folder / "model_index.json").is_file() else {}
        )
        return tuple(name for name in parts if folder is not None and (folder / name / "config.json").is_file())

    @property
    def multiple_px(self) -> int:
        """See `GeneratorMember.multiple_px`: of a model that is here by its settings, else that of most models."""
        vae, transformer = self._settings("vae"), self._settings("transformer")
        widths = vae.get("block_out_channels") or vae.get("encoder_block_out_channels") or ()
        latent = 2 ** (len(widths) - 1) if widths else LATENT_PX
        # FLUX and its relatives pack 2 x 2 latents into a token outside of the transformer.
        packed = "axes_dims_rope" in transformer
        return latent * (2 if packed else int(transformer.get("patch_size") or 1))

    @property
    def weight_bytes(self) -> float:
        """See `GeneratorMember.weight_bytes`."""
        return self.bytes_here() or 0.0

    def look(self, root: Path) -> None:
        """See `Weights.look`."""
        check_pipeline(root)
        pipeline_class(root)
        super().look(root)

    def problems(self) -> Iterator[Problem]:
        """See `Config.problems`: settings that the pipeline does not take."""
        found = list(super().problems())
        yield from found
        folder = folder_here(self)
        if folder is None or any(problem.place == "here" for problem in found):
            return
        try:
            check_settings(self, pipeline_class(folder))
        except ModelIncomplete:  # of the hub's cache, which has a part: the rest is fetched when it is opened
            return
        except ModelError as error:
            yield Problem("here", "model", str(error), "give another folder")
        except ConfigError as error:
            yield Problem("recipe", "", str(error), "see the model's card")

    def rehearse(self, folder: Path) -> Self:
        """See `Config.rehearse`: a tiny pipeline of the same class, or of one that takes these settings, two steps."""
        from lightgen.generators.tiny_pipelines import TINY, tiny_pipeline

        here = folder_here(self)
        found = (
            read_index(here, SAVED).get("_class_name")
            if here is not None and (here / "model_index.json").is_file()
            else None
        )
        name = found if found in TINY else ("FluxPipeline" if self.true_guidance else "StableDiffusion3Pipeline")
        own = self.own_folder(folder)
        model = str(own if own.exists() else tiny_pipeline(own, name))
        guidance = 1.5 if self.guidance is None else self.guidance
        tokens = None if self.max_tokens is None or name not in TAKES_TOKENS else min(self.max_tokens, 77)
        few = {"steps": min(self.steps, 2), "guidance": guidance, "max_tokens": tokens}
        return self.model_copy(update={"model": model, "revision": None, "subfolder": "", **few})

    def content(self) -> dict[str, Any]:
        """Settings and weights. Raises ConfigError or ModelError; loads nothing."""
        if is_local(self):
            check_pipeline(Path(self.model).expanduser())
        return super().content()

    def open(self, work: Work, worker: Worker) -> "DiffusersGenerator":
        """See `GeneratorMember.open`. Raises ConfigError, ModelError."""
        return DiffusersGenerator(self, _load(self, worker.device))

    def _settings(self, part: str) -> dict[str, Any]:
        return self.settings_here(part) or {}


TAKES_TOKENS = ("StableDiffusion3Pipeline", "FluxPipeline", "PixArtSigmaPipeline")


class DiffusersGenerator:
    """Draws captions with a pipeline."""

    def __init__(self, config: DiffusersConfig, pipeline: Any) -> None:
        self.config, self.pipeline = config, pipeline

    @cached_property
    def told(self) -> dict[str, Any]:
        """What the pipeline is told of every batch but captions, seeds and sides."""
        takes = parameters(type(self.pipeline))
        given = {theirs: getattr(self.config, ours) for ours, theirs in OPTIONS.items() if ours != "negative_prompt"}
        unwanted = {name: value for name, value in NOT_WANTED.items() if name in takes}
        return {name: value for name, value in given.items() if value is not None} | unwanted

    def generate(self, captions: Sequence[str], seeds: Sequence[int], height_px: int, width_px: int) -> list[Drawn]:
        """See `Generator.generate`; `safety_checker` where the pipeline's own gave a black image, `nonfinite`."""
        against = {"negative_prompt": [self.config.negative_prompt] * len(captions)}
        told = self.told | {"num_inference_steps": self.config.steps} | (against if self.config.negative_prompt else {})
        try:
            made = call(self.pipeline, captions, seeds, height_px, width_px, **told)
        except ValueError as error:
            raise ConfigError(
                f"generate.generator: {type(self.pipeline).__name__} refuses: {str(error)[:300]}"
            ) from error
        sides = made.images.shape[1:3]
        if sides != (height_px, width_px):
            raise ConfigError(
                f"generate: {type(self.pipeline).__name__} draws {sides[1]} x {sides[0]} px where {width_px} x "
                f"{height_px} px are asked for: take a multiple of its own unit"
            )
        flagged = getattr(made, "nsfw_content_detected", None) or [False] * len(captions)
        return [_refused() if bad else as_pixels(image) for image, bad in zip(made.images, flagged, strict=True)]


def _refused() -> Failure:
    return Failure("safety_checker", "the safety checker of the pipeline took it for unsafe and made it black")


def _load(config: DiffusersConfig, device: str) -> Any:
    from diffusers.pipelines.pipeline_utils import DiffusionPipeline

    def check(folder: Path) -> None:
        check_pipeline(folder)
        check_settings(config, pipeline_class(folder))

    return loaded(config, device, "pipeline of diffusers", DiffusionPipeline, check)


def pipeline_class(root: Path) -> Any:
    """The class that model_index.json names. Raises ModelError where this diffusers has none, or none for captions."""
    import diffusers

    name = read_index(root, SAVED)["_class_name"]
    found = getattr(diffusers, name, None)
    if found is None:
        raise ModelError(f"{root} holds a {name}, which diffusers {diffusers.__version__} does not know")
    takes = parameters(found)
    required = {one for one, how in takes.items() if how.default is how.empty and how.kind is not how.VAR_KEYWORD}
    if not takes.keys() >= set(NEEDED) or FROM_IMAGES & takes.keys() or required - {"self", "prompt"}:
        raise ModelError(f"{root} holds a {name}, which does not draw captions alone; take a text-to-image pipeline")
    return found


def parameters(pipeline: Any) -> Mapping[str, inspect.Parameter]:
    """What a pipeline takes."""
    return inspect.signature(pipeline.__call__).parameters


def check_settings(config: DiffusersConfig, pipeline: Any) -> None:
    """Raises ConfigError where a setting is not taken, has no effect, or is missing."""
    takes, name = parameters(pipeline), pipeline.__name__
    for ours, theirs in OPTIONS.items():
        if getattr(config, ours) not in (None, "") and theirs not in takes:
            raise ConfigError(f"generate.generator.{ours}: {name} takes no {theirs}; leave it out")
    if config.guidance is None and takes.get("guidance_scale") and takes["guidance_scale"].default is not None:
        own = takes["guidance_scale"].default
        raise ConfigError(f"generate.generator.guidance: {name} takes a guidance; say it (its own default is {own:g})")
    key = "true_guidance" if "true_cfg_scale" in takes else "guidance"
    scale = getattr(config, key)
    scale = takes[OPTIONS[key]].default if scale is None and OPTIONS[key] in takes else scale
    if config.negative_prompt and (scale or 0.0) <= 1:
        raise ConfigError(f"generate.generator.negative_prompt: it does nothing unless {key} is above 1")


def check_pipeline(root: Path) -> None:
    """Raises ModelError where a folder holds no whole pipeline, ConfigError where it would run code of its own."""
    index = read_index(root, SAVED)
    if not isinstance(index.get("_class_name"), str):
        raise ConfigError(
            f"RemoteCodeRefused: {root}/model_index.json names its pipeline as {index.get('_class_name')!r}, not by a "
            "class of diffusers"
        )
    for name, (library, _) in _parts(index).items():
        if not _known(library):
            raise foreign_code(root, name, library)
        if (root / name / f"{library}.py").exists():
            raise ConfigError(f"RemoteCodeRefused: {root}/{name}/{library}.py is code of the repository; remove it")
        if not (root / name).is_dir():
            raise ModelIncomplete(f"{root}: part {name} of model_index.json is not there; fetch the model again")
        if (root / name / "config.json").is_file():
            check_model_folder(root / name, str(root))


def _known(library: str) -> bool:
    """Whether a part comes with diffusers or transformers: some pipelines name a module of diffusers."""
    if library in LIBRARIES:
        return True
    return bool(MODULE.match(library)) and importlib.util.find_spec(f"diffusers.pipelines.{library}") is not None


def _parts(index: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Library and class of every part that is loaded."""
    pairs = {name: value for name, value in index.items() if isinstance(value, list) and not name.startswith("_")}
    return {name: (pair[0], pair[1]) for name, pair in pairs.items() if len(pair) == 2 and pair[0] is not None}
