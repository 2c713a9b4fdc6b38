"""Scorer `mask2former`, GenEval's own detector: Mask2Former finds the 80 COCO things, CLIP names their colours.

GenEval ran mmdet's Mask2Former (Swin-S, instance) and OpenCLIP's ViT-L-14 "openai"; the defaults are the same weights
in transformers' format, so scores are comparable and not bit-equal. See model_facts 5.1.
"""

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
import torch
from pydantic import Field

from lightgen.config import RUN
from lightgen.decisions.derive import Geneval
from lightgen.errors import ModelError
from lightgen.evaluation.geneval import THRESHOLD
from lightgen.scorers.base import ScorerMember, answer_table
from lightgen.scorers.scenes import DETECTIONS
from lightgen.storage.pixels import Pixels
from lightgen.storage.weights import Weights, weights_folder
from lightgen.work import Worker

COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
TEMPLATES = ("a photo of a {c} {name}", "a photo of a {c}-colored {name}", "a photo of a {c} object")
# GenEval's names where they are not COCO's.
RENAMED = {"mouse": "computer mouse", "remote": "tv remote", "keyboard": "computer keyboard"}
GRAY = 0x99  # what stands in place of all that is not the object


class Mask2FormerConfig(ScorerMember):
    """Which weights look at the images; `floor` is the least score of a thing that is written down."""

    ANSWERS: ClassVar[pa.Schema] = DETECTIONS

    kind: Literal["mask2former"] = "mask2former"
    segmenter: Weights = Field(
        default=Weights(model="facebook/mask2former-swin-small-coco-instance"), description="which Mask2Former"
    )
    colors: Weights = Field(
        default=Weights(model="openai/clip-vit-large-patch14"), description="which CLIP names colours"
    )
    floor: float = Field(default=THRESHOLD, gt=0, lt=1, description="boxes below this confidence are not kept")
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

    def rehearse(self, folder: Path) -> Self:
        """See `Config.rehearse`: a detector of dogs, mice and cats, and a CLIP."""
        from lightgen.scorers.tiny import tiny_clip, tiny_segmenter

        own = self.own_folder(folder)
        if not own.exists():
            tiny_segmenter(own / "segmenter")
            tiny_clip(own / "colors")
        places = {name: Weights(model=str(own / name)) for name in ("segmenter", "colors")}
        return self.model_copy(update=places)

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
    def segmenter(self) -> tuple[Any, Any]:
        """Processor and model."""
        from transformers import Mask2FormerForUniversalSegmentation, Mask2FormerImageProcessor

        return _load(self.config.segmenter, Mask2FormerImageProcessor, Mask2FormerForUniversalSegmentation, self.device)

    @cached_property
    def clip(self) -> tuple[Any, Any]:
        """Processor and model."""
        from transformers import CLIPModel, CLIPProcessor

        return _load(self.config.colors, CLIPProcessor, CLIPModel, self.device)

    def score(self, images: Sequence[Pixels], captions: Sequence[str]) -> pa.Table:
        """See `Scorer.score`."""
        rows = [
            {"detections": json.dumps([self._plain(image, *thing) for thing in things])}
            for image, things in zip(images, self._segment(images), strict=True)
        ]
        return answer_table(DETECTIONS, rows)

    @torch.inference_mode()
    def _segment(self, images: Sequence[np.ndarray]) -> list[list[tuple[str, float, np.ndarray]]]:
        """Name, score and mask [h, w] of every thing."""
        processor, model = self.segmenter
        outputs = model(**processor(images=list(images), return_tensors="pt").to(self.device))
        sizes = [image.shape[:2] for image in images]
        results = processor.post_process_instance_segmentation(
            outputs, threshold=self.config.floor, target_sizes=sizes, return_binary_maps=True
        )
        return [self._things(result) for result in results]

    def _things(self, result: dict[str, Any]) -> list[tuple[str, float, np.ndarray]]:
        names, things = self.segmenter[1].config.id2label, []
        for info in result["segments_info"]:
            mask = np.asarray(result["segmentation"][info["id"]].cpu()) > 0.5
            name = names[info["label_id"]]
            things += [(RENAMED.get(name, name), float(info["score"]), mask)] if mask.any() else []
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


def _load(weights: Weights, processor: Any, model: Any, device: str) -> tuple[Any, Any]:
    from safetensors import SafetensorError

    folder = weights_folder(weights)
    try:
        reads = processor.from_pretrained(folder, local_files_only=True)
        looks = model.from_pretrained(folder, use_safetensors=True, local_files_only=True)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"model {weights.model}: not a usable {model.__name__}: {str(error)[:300]}") from None
    return reads, looks.to(device).eval().requires_grad_(False)
