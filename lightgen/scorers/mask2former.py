"""Scorer `mask2former`, GenEval's own detector: Mask2Former finds the 80 COCO things, CLIP names their colours.

GenEval ran mmdet's Mask2Former (Swin-S, instance) and OpenCLIP's ViT-L-14 "openai"; the defaults are the same weights
in transformers' format, so scores are comparable and not bit-equal. Pictures are resized, masks scaled back and scored
as mmdet does it; transformers' own steps cut masks out at 384 x 384 px, whatever the picture. See model_facts 5.1.
"""

import json
from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as functional
from pydantic import Field

from lightgen.config import RUN
from lightgen.decisions.derive import Geneval
from lightgen.errors import ModelIncomplete
from lightgen.evaluation.geneval import THRESHOLD
from lightgen.problems import Problem
from lightgen.scorers.base import ScorerMember, answer_table
from lightgen.scorers.scenes import DETECTIONS
from lightgen.storage.networks import META, library_errors, load_network
from lightgen.storage.pixels import Pixels
from lightgen.storage.weights import Weights, weights_folder
from lightgen.work import Worker

COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
TEMPLATES = ("a photo of a {c} {name}", "a photo of a {c}-colored {name}", "a photo of a {c} object")
# GenEval's names where they are not COCO's.
RENAMED = {"mouse": "computer mouse", "remote": "tv remote", "keyboard": "computer keyboard"}
MEAN, STD, STRIDE = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375), 32
Thing = tuple[str, float, np.ndarray]  # name, score and mask [h, w]
GRAY = 0x99  # what stands in place of all that is not the object


class Mask2FormerConfig(ScorerMember):
    """Which weights look at the images; `floor` is the least score of a thing that is written down."""

    ANSWERS: ClassVar[pa.Schema] = DETECTIONS

    REVISION = 2

    kind: Literal["mask2former"] = "mask2former"
    segmenter: Weights = Field(
        default=Weights(model="facebook/mask2former-swin-small-coco-instance"), description="which Mask2Former"
    )
    colors: Weights = Field(
        default=Weights(model="openai/clip-vit-large-patch14"), description="which CLIP names colours"
    )
    floor: float = Field(default=THRESHOLD, gt=0, lt=1, description="boxes below this confidence are not kept")
    short_px: int = Field(default=800, ge=32, description="shorter side that the segmenter sees, as GenEval's did")
    long_px: int = Field(default=1333, ge=32, description="unless the longer side would be longer than this")
    batch_size: int = Field(default=4, ge=1, description="images looked at together", json_schema_extra=RUN)

    @property
    def verdict(self) -> Geneval:
        """See `ScorerMember.verdict`."""
        return Geneval()

    @property
    def wants_gpu(self) -> bool:
        """See `ScorerMember.wants_gpu`."""
        return True

    @property
    def weight_bytes(self) -> float:
        """See `ScorerMember.weight_bytes`."""
        return self.segmenter.bytes_here() or 0.0

    def problems(self) -> Iterator[Problem]:
        """See `Config.problems`: networks that cannot be used."""
        yield from super().problems()
        for name, weights, load in (("segmenter", self.segmenter, load_segmenter), ("colors", self.colors, load_clip)):
            if not any(weights.problems()):
                yield from (problem.under(name) for problem in weights.refused(partial(load, weights, META)))

    def rehearse(self, folder: Path) -> Self:
        """See `Config.rehearse`: a detector of dogs, mice and cats, and a CLIP."""
        from lightgen.scorers.tiny import tiny_clip, tiny_segmenter

        own = self.own_folder(folder)
        if not own.exists():
            tiny_segmenter(own / "segmenter")
            tiny_clip(own / "colors")
        places = {name: Weights(model=str(own / name)) for name in ("segmenter", "colors")}
        return self.model_copy(update={**places, "short_px": 64, "long_px": 107})

    @property
    def batch(self) -> int:
        """See `ScorerMember.batch`."""
        return self.batch_size

    def open(self, worker: Worker) -> "Mask2FormerDetector":
        """See `ScorerMember.open`."""
        return Mask2FormerDetector(self, worker.device)


class Mask2FormerDetector:
    """Finds things, and names the colour of each."""

    def __init__(self, config: Mask2FormerConfig, device: str) -> None:
        self.config, self.device = config, device

    @cached_property
    def segmenter(self) -> Any:
        """The model; pictures are prepared here."""
        return load_segmenter(self.config.segmenter, self.device)

    @cached_property
    def clip(self) -> tuple[Any, Any]:
        """Processor and model."""
        return load_clip(self.config.colors, self.device)

    def score(self, images: Sequence[Pixels], captions: Sequence[str]) -> pa.Table:
        """See `Scorer.score`."""
        rows = [
            {"detections": json.dumps([self._plain(image, *thing) for thing in things])}
            for image, things in zip(images, self._segment(images), strict=True)
        ]
        return answer_table(DETECTIONS, rows)

    def _segment(self, images: Sequence[np.ndarray]) -> list[list[Thing]]:
        """Name, score and mask [h, w] of every thing; pictures of one size are looked at together."""
        found: dict[int, list[Thing]] = {}
        for shape in dict.fromkeys(image.shape for image in images):
            places = [place for place, image in enumerate(images) if image.shape == shape]
            found |= zip(places, self._of_one_size([images[place] for place in places]), strict=True)
        return [found[place] for place in range(len(images))]

    @torch.inference_mode()
    def _of_one_size(self, images: Sequence[np.ndarray]) -> list[list[Thing]]:
        pixels = torch.stack([torch.from_numpy(image.copy()) for image in images]).to(self.device)
        size = resized(pixels.shape[1], pixels.shape[2], self.config.short_px, self.config.long_px)
        ready = prepared(pixels, size)
        output = self.segmenter(pixel_values=ready)
        pairs = zip(output.class_queries_logits, output.masks_queries_logits, strict=True)
        return [
            self._things(classes, functional.interpolate(masks[None], ready.shape[-2:], mode="bilinear")[0], size,
                         images[0].shape[:2])
            for classes, masks in pairs
        ]  # fmt: skip

    def _things(
        self, classes: torch.Tensor, masks: torch.Tensor, size: tuple[int, int], shape: tuple[int, ...]
    ) -> list[Thing]:
        """Of each class and query among the surest: mmdet's rules, masks at the picture's own size."""
        names, things = self.segmenter.config.id2label, []
        scores = classes.softmax(-1)[:, :-1]
        best = scores.flatten().topk(min(len(scores), scores.numel()))
        # A mask only lowers a score, so those below the floor need none.
        for score, place in zip(best.values.tolist(), best.indices.tolist(), strict=True):
            if score < self.config.floor:
                continue
            query, label = divmod(place, scores.shape[1])
            logits = functional.interpolate(masks[query][None, None, : size[0], : size[1]], shape, mode="bilinear")[
                0, 0
            ]
            inside = logits > 0
            sure = score * float(logits[inside].sigmoid().mean()) if inside.any() else 0.0
            name = names[label]
            if sure >= self.config.floor:
                things.append((RENAMED.get(name, name), sure, inside.cpu().numpy()))
        return things

    def _plain(self, image: Pixels, name: str, score: float, mask: np.ndarray) -> dict[str, object]:
        rows, columns = np.nonzero(mask)
        box = (float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1))
        color = self._color(image, mask, box, name)
        return {"class": name, "color": color, "score": round(score, 6), "box": list(box)}

    @torch.inference_mode()
    def _color(self, image: np.ndarray, mask: np.ndarray, box: tuple[float, ...], name: str) -> str:
        """The colour whose averaged prompts are nearest to the object cut out on gray."""
        x0, y0, x1, y1 = map(int, box)
        cut = np.where(mask[:, :, None], image, np.uint8(GRAY))[y0:y1, x0:x1]
        processor, model = self.clip
        pixels = processor(images=[cut], return_tensors="pt", input_data_format="channels_last").to(self.device)
        seen = _unit(_features(model.get_image_features(**pixels)))
        prompts = [template.format(c=color, name=name) for color in COLORS for template in TEMPLATES]
        words = processor(text=prompts, return_tensors="pt", padding=True).to(self.device)
        told = _unit(_features(model.get_text_features(**words))).unflatten(0, (len(COLORS), len(TEMPLATES)))
        return COLORS[int((_unit(told.mean(dim=1)) @ seen[0]).argmax())]


def _features(output: Any) -> torch.Tensor:
    """CLIP's projected features: a tensor in older transformers, a field of an output since version 5."""
    return output if isinstance(output, torch.Tensor) else output.pooler_output


def _unit(vectors: torch.Tensor) -> torch.Tensor:
    return vectors / vectors.norm(dim=-1, keepdim=True)


def resized(height: int, width: int, short_px: int, long_px: int) -> tuple[int, int]:
    """Height and width with the shorter side at `short_px` unless the longer would pass `long_px`; mmdet's rounding."""
    scale = min(long_px / max(height, width), short_px / min(height, width))
    return int(height * scale + 0.5), int(width * scale + 0.5)


def prepared(pixels: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """uint8 [b, h, w, 3] as mmdet's test pipeline leaves it: [b, 3, H, W], sides padded with 0 to multiples of 32."""
    plain = functional.interpolate(pixels.movedim(-1, 1).float(), size, mode="bilinear")
    mean, std = (torch.tensor(values, device=pixels.device)[:, None, None] for values in (MEAN, STD))
    return functional.pad((plain - mean) / std, (0, -size[1] % STRIDE, 0, -size[0] % STRIDE))


def load_segmenter(weights: Weights, device: str, root: Path | None = None) -> Any:
    """The Mask2Former, of the model in `root` where it is given. Raises ConfigError, ModelError."""
    from transformers import Mask2FormerForUniversalSegmentation as Segmenter

    return load_network(Segmenter, weights_folder(weights, root), weights.model, Segmenter.__name__, device)


def load_clip(weights: Weights, device: str, root: Path | None = None) -> tuple[Any, Any]:
    """Processor and model of the CLIP, in `root` where it is given. Raises ConfigError, ModelError."""
    from transformers import CLIPModel, CLIPProcessor

    folder = weights_folder(weights, root)
    model = load_network(CLIPModel, folder, weights.model, CLIPModel.__name__, device)
    try:
        return CLIPProcessor.from_pretrained(folder, local_files_only=True), model
    except library_errors() as error:
        raise ModelIncomplete(f"model {weights.model}: no usable processor: {str(error)[:300]}") from None
