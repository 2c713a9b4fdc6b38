"""What generators that draw with a pipeline of diffusers share: settings, loading, and one call for a batch.

Only safetensors are loaded and no code of a repository runs. The noise of each sample comes from its own generator on
the CPU, so it depends on the seed alone: neither on the batch nor on the device.
"""

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from lightgen.config import RUN
from lightgen.errors import ConfigError, ModelError, ModelIncomplete
from lightgen.generators.base import Drawn, Failure, GeneratorMember
from lightgen.storage.networks import META, load_network
from lightgen.storage.weights import Weights, is_local, pinned

log = logging.getLogger(__name__)

SAVED = "save_pretrained of a pipeline of diffusers"
LIBRARIES = ("diffusers", "transformers", None)  # parts of a pipeline come from these, or are left out
Offload = Literal["none", "model", "sequential"]


class PipelineMember(Weights, GeneratorMember):
    """Settings of a generator that draws with a pipeline."""

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
    def wants_gpu(self) -> bool:
        """See `GeneratorMember.wants_gpu`."""
        return True

    def look(self, root: Path) -> None:
        """See `Weights.look`: each network of the pipeline."""
        super().look(root)
        for name, kind in _networks(root).items():
            load_network(kind, root / name, f"{self.model}, {name}", kind.__name__, META)

    @property
    def journals(self) -> bool:
        """See `GeneratorMember.journals`."""
        return True


def loaded(config: PipelineMember, device: str, what: str, kind: Any, check: Callable[[Path], None]) -> Any:
    """The pipeline of `kind` on the device; `what` says what its folder, which `check` may refuse, should be.

    Raises ConfigError, ModelError.
    """
    import torch
    from diffusers.utils.logging import disable_progress_bar
    from safetensors import SafetensorError

    disable_progress_bar()  # of loading: each worker of a stage would draw one
    log.info("loading %s", config.model)
    dtype = getattr(torch, config.dtype)
    try:
        folder = _folder(config, kind)
        check(folder)
        networks = _text_networks(folder, config.model, dtype)
        pipeline = kind.from_pretrained(str(folder), dtype=dtype, use_safetensors=True, **networks)
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(
            f"model {config.model} cannot be loaded: {type(error).__name__}: {str(error)[:400]}; it must be a "
            f"{what} saved as safetensors; check the folder, or the network, your licence and token of the hub"
        ) from error
    _check_whole(pipeline, config.model)
    pipeline.set_progress_bar_config(disable=True)
    return _placed(pipeline, config.offload, device)


def _folder(config: PipelineMember, kind: Any) -> Path:
    """The folder of the pipeline; of the hub's files only those that it loads are fetched."""
    if is_local(config):
        return Path(config.model).expanduser()
    return Path(kind.download(config.model, revision=pinned(config), use_safetensors=True))


def _text_networks(folder: Path, model: str, dtype: Any) -> dict[str, Any]:
    """The networks of transformers in a pipeline, for which that library would make up weights that are missing."""
    from transformers import PreTrainedModel

    return {
        name: load_network(kind, folder / name, f"{model}, {name}", kind.__name__, dtype=dtype)
        for name, kind in _networks(folder).items()
        if issubclass(kind, PreTrainedModel)
    }


def _networks(folder: Path) -> dict[str, type]:
    """The classes of the parts of a pipeline that are networks of diffusers and transformers themselves."""
    import diffusers
    import transformers
    from diffusers.models.modeling_utils import ModelMixin

    libraries = {library.__name__: library for library in (diffusers, transformers)}
    named = {name: value for name, value in read_index(folder, SAVED).items() if isinstance(value, list)}
    kinds = {
        name: getattr(libraries[library], str(kind), None)
        for name, (library, kind) in named.items()
        if library in libraries
    }
    sorts = (ModelMixin, transformers.PreTrainedModel)
    return {name: kind for name, kind in kinds.items() if isinstance(kind, type) and issubclass(kind, sorts)}


def _check_whole(pipeline: Any, model: str) -> None:
    """Raises ModelError where diffusers found no numbers for a weight, which it leaves empty."""
    import torch

    empty = [
        f"{name}.{weight}"
        for name, part in pipeline.components.items()
        if isinstance(part, torch.nn.Module)
        for weight, value in part.named_parameters()
        if value.is_meta
    ]
    if empty:
        raise ModelError(
            f"model {model} is not whole: {len(empty):,} weights are in none of its files, the first {empty[0]}; "
            "fetch it again"
        )


def _placed(pipeline: Any, offload: Offload, device: str) -> Any:
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


def call(
    pipeline: Any, captions: Sequence[str], seeds: Sequence[int], height_px: int, width_px: int, **told: Any
) -> Any:
    """What the pipeline makes of a batch, images as floats [n, height, width, 3]. Raises ModelError without memory."""
    import torch

    try:
        return pipeline(
            prompt=list(captions),
            height=height_px,
            width=width_px,
            generator=[torch.Generator("cpu").manual_seed(seed) for seed in seeds],
            output_type="np",
            **told,
        )
    except torch.OutOfMemoryError as error:
        raise ModelError(
            f"the GPU has no memory for {len(captions)} images of {width_px} x {height_px} px "
            f"({str(error)[:200]}); lower generate.batch or set generate.generator.offload to model"
        ) from None


def as_pixels(image: np.ndarray) -> Drawn:
    """[H, W, 3] floats of 0 to 1 as bytes; an image with any value that is not finite is none."""
    bad = int(np.count_nonzero(~np.isfinite(image)))
    if bad:
        return Failure("nonfinite", f"{bad} of {image.size} values are not finite; try dtype bfloat16 or float32")
    return (image.clip(0, 1) * 255).round().astype(np.uint8)


def read_index(root: Path, of: str) -> dict[str, Any]:
    """model_index.json of a pipeline's folder, which `of` should have saved. Raises ModelError."""
    path = root / "model_index.json"
    if not path.is_file():
        raise ModelIncomplete(f"{root}: no model_index.json to read; give a folder saved by {of}")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{root}: no model_index.json to read ({error}); give a folder saved by {of}") from None
    if not isinstance(found, dict):
        raise ModelError(f"{root}/model_index.json is no JSON object; fetch the model again")
    return found


def foreign_code(root: Path, part: str, library: object) -> ConfigError:
    """What is said of a part of a pipeline that is code of its repository."""
    return ConfigError(
        f"RemoteCodeRefused: {root}/model_index.json takes {part!r} from {library!r}, which is code of the "
        "repository; use a model made of diffusers and transformers parts only"
    )
