"""Scorer `embedding`: what a vision network of transformers makes of a picture, as one vector.

CLIP, SigLIP, DINOv2, ViT and whatever else `AutoModel` loads with a `preprocessor_config.json` beside it. Pictures are
prepared here with PIL alone, as that file says: torchvision is not needed.
"""

import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float32
from PIL import Image
from pydantic import Field

from lightgen.config import RUN
from lightgen.errors import ModelError, ModelIncomplete
from lightgen.problems import Problem
from lightgen.scorers.base import ScorerMember, answer_table
from lightgen.storage.networks import META, load_network
from lightgen.storage.pixels import Pixels
from lightgen.storage.weights import Weights, weights_folder
from lightgen.work import Worker
from schemas.scores import VECTOR

Pool = Literal["projected", "pooled", "first", "mean"]
PREPROCESSOR = "preprocessor_config.json"


class EmbeddingConfig(ScorerMember):
    """Which network, and which of its outputs. CMMD is `openai/clip-vit-large-patch14-336`, `projected`."""

    ANSWERS: ClassVar[pa.Schema] = pa.schema([VECTOR])

    kind: Literal["embedding"] = "embedding"
    weights: Weights = Field(description="of the network")
    pool: Pool = Field(
        default="pooled",
        description="projected into the space of texts, pooled by the network, its first token, or the mean of tokens",
    )
    batch_size: int = Field(default=32, ge=1, description="images looked at together", json_schema_extra=RUN)

    @property
    def network(self) -> str:
        """See `ScorerMember.network`: the hub's name, or class and digest of a local folder."""
        known = self.weights.content()["weights"]
        if "model" in known:
            return f"{known['model']} at {known['revision'][:8]}, {self.pool}"
        classes = (self.weights.settings_here(self.weights.subfolder) or {}).get("architectures") or ["a network"]
        return f"{classes[0]} of digest {known['sha256'][:12]}, {self.pool}"

    @property
    def wants_gpu(self) -> bool:
        """See `ScorerMember.wants_gpu`."""
        return True

    @property
    def weight_bytes(self) -> float:
        """See `ScorerMember.weight_bytes`."""
        return self.weights.bytes_here() or 0.0

    @property
    def batch(self) -> int:
        """See `ScorerMember.batch`."""
        return self.batch_size

    def problems(self) -> Iterator[Problem]:
        """See `Config.problems`: a network that cannot be used, or has no such output."""
        yield from super().problems()
        if not any(self.weights.problems()):
            yield from (problem.under("weights") for problem in self.weights.refused(self._look))

    def _look(self, root: Path) -> None:
        folder = root / self.weights.subfolder
        read_preparation(folder)
        load_embedding(self, folder, META)

    def rehearse(self, folder: Path) -> Self:
        """See `Config.rehearse`: a tiny CLIP."""
        from lightgen.scorers.tiny import tiny_clip

        own = self.own_folder(folder)
        if not own.exists():
            tiny_clip(own)
        return self.model_copy(update={"weights": Weights(model=str(own))})

    def open(self, worker: Worker) -> "EmbeddingScorer":
        """See `ScorerMember.open`."""
        return EmbeddingScorer(self, worker.device)


class EmbeddingScorer:
    """Turns pictures into vectors."""

    def __init__(self, config: EmbeddingConfig, device: str) -> None:
        self.config, self.device = config, device

    @cached_property
    def folder(self) -> Path:
        """Where the weights are."""
        return weights_folder(self.config.weights)

    @cached_property
    def prepare(self) -> "Preparation":
        """How pictures are made ready."""
        return read_preparation(self.folder)

    @cached_property
    def model(self) -> Any:
        """The network, in float32."""
        return load_embedding(self.config, self.folder, self.device)

    def score(self, images: Sequence[Pixels], captions: Sequence[str]) -> pa.Table:
        """See `Scorer.score`."""
        pixels = torch.from_numpy(np.stack([self.prepare(image) for image in images]))
        vectors = self._look(pixels.to(self.device)).float().cpu().numpy().astype("<f4")
        if broken := int((~np.isfinite(vectors).all(axis=1)).sum()):
            what = f"{broken} of {len(vectors)} vectors are not finite, in float32"
            raise ModelError(f"model {self.config.weights.model}: {what}: its weights are damaged; fetch them again")
        return answer_table(EmbeddingConfig.ANSWERS, [{VECTOR.name: vector.tobytes()} for vector in vectors])

    @torch.inference_mode()
    def _look(self, pixels: torch.Tensor) -> torch.Tensor:
        pool = self.config.pool
        if pool == "projected":
            found = self.model.get_image_features(pixel_values=pixels)
            # A tensor in older transformers, a field of an output since version 5.
            return found if isinstance(found, torch.Tensor) else found.pooler_output
        output = getattr(self.model, "vision_model", self.model)(pixel_values=pixels)
        if pool == "pooled":
            if getattr(output, "pooler_output", None) is None:
                raise ModelError(f"model {self.config.weights.model} pools nothing; take first or mean")
            return output.pooler_output.flatten(1)
        tokens = output.last_hidden_state
        return tokens[:, 0] if pool == "first" else tokens.mean(dim=1)


class Preparation:
    """Resize, crop and scale, as a `preprocessor_config.json` says."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.short, self.sides = _resize(settings)
        self.crop = _crop(settings)
        self.filter = Image.Resampling(settings.get("resample", Image.Resampling.BICUBIC))
        self.factor = settings.get("rescale_factor", 1 / 255) if settings.get("do_rescale", True) else 1.0
        plain = not settings.get("do_normalize", True)
        self.mean = np.zeros(3, np.float32) if plain else np.asarray(settings["image_mean"], np.float32)
        self.std = np.ones(3, np.float32) if plain else np.asarray(settings["image_std"], np.float32)

    def __call__(self, image: Pixels) -> Float32[np.ndarray, "3 h w"]:
        """One picture, channels first."""
        picture = Image.fromarray(image)
        if self.short is not None:
            ratio = self.short / min(picture.size)
            sides = [self.short if side == min(picture.size) else int(side * ratio) for side in picture.size]
            picture = picture.resize((sides[0], sides[1]), self.filter)
        elif self.sides is not None:
            picture = picture.resize(self.sides, self.filter)
        if self.crop is not None:
            picture = _centre(picture, *self.crop)
        values = (np.asarray(picture, np.float32) * np.float32(self.factor) - self.mean) / self.std
        return np.ascontiguousarray(values.transpose(2, 0, 1))


def load_embedding(config: EmbeddingConfig, folder: Path, device: str) -> Any:
    """The network in `folder`, in float32. Raises ModelError where it cannot be used, or has not the wanted output."""
    from transformers import AutoModel

    model, spare = config.weights.model, ("pooler.",) if config.pool in ("first", "mean") else ()
    network = load_network(AutoModel, folder, model, "network", device, spare, dtype=torch.float32)
    if config.pool == "projected" and not hasattr(network, "get_image_features"):
        raise ModelError(f"model {model} has no projection; take pooled, first or mean")
    return network


def read_preparation(folder: Path) -> Preparation:
    """How pictures are made ready for the network in `folder`. Raises ModelError."""
    path = folder / PREPROCESSOR
    if not path.is_file():
        path = folder / "processor_config.json"
    if not path.is_file():
        raise _unprepared(folder, "it is not there", ModelIncomplete)
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        return Preparation(settings.get("image_processor", settings))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _unprepared(folder, f"{type(error).__name__}: {error}", ModelError) from None


def _unprepared(folder: Path, why: str, kind: type[ModelError]) -> ModelError:
    return kind(
        f"{folder}: no usable {PREPROCESSOR} ({why}); it says how pictures are resized and normalised, so fetch it "
        "beside the weights"
    )


def _resize(settings: dict[str, Any]) -> tuple[int | None, tuple[int, int] | None]:
    """The short side, or width and height; neither where nothing is resized."""
    size = settings.get("size")
    if not settings.get("do_resize", True) or size is None:
        return None, None
    if isinstance(size, int):
        return (size, None) if settings.get("do_center_crop") else (None, (size, size))
    if "shortest_edge" in size:
        return int(size["shortest_edge"]), None
    return None, (int(size["width"]), int(size["height"]))


def _crop(settings: dict[str, Any]) -> tuple[int, int] | None:
    """Height and width of the middle that is kept."""
    size = settings.get("crop_size")
    if not settings.get("do_center_crop", False) or size is None:
        return None
    return (size, size) if isinstance(size, int) else (int(size["height"]), int(size["width"]))


def _centre(picture: Image.Image, height: int, width: int) -> Image.Image:
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    return picture.crop((left, top, left + width, top + height))
