"""Detectors that GenEval's rules can use; a new one is one class and one line in the union."""

from collections.abc import Sequence
from typing import Annotated, Literal, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from lightgen.evaluation.geneval import COUNTING_THRESHOLD, Detected, Metadata
from lightgen.evaluation.mask2former import Mask2FormerConfig
from lightgen.scenes.detect import Detection
from lightgen.scenes.detect import detect as detect_things


class Detector(Protocol):
    """Finds objects in images; the metadata say which classes and colours are asked for."""

    def identity(self) -> dict:
        """What decides the boxes, as JSON values."""
        ...

    def detect(self, images: Sequence[np.ndarray], asked: Sequence[Metadata]) -> list[list[Detected]]:
        """Boxes in each uint8 [h, w, 3] image."""
        ...


class ScenesDetectorConfig(BaseModel):
    """The exact detector of the scene world.

    `sure` is the silhouette overlap at which a thing counts as recognised: it is mapped to GenEval's strictest
    threshold, so that the same things count in every task.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["scenes"] = "scenes"
    sure: float = Field(default=0.82, gt=0, lt=1, description="least overlap (IoU) with the shape")

    def make(self) -> "ScenesDetector":
        """The detector."""
        return ScenesDetector(self)


DetectorConfig = Annotated[ScenesDetectorConfig | Mask2FormerConfig, Field(discriminator="kind")]


class ScenesDetector:
    """See `lightgen.scenes.detect`."""

    def __init__(self, config: ScenesDetectorConfig) -> None:
        self.config = config

    def identity(self) -> dict:
        """See `Detector.identity`."""
        return self.config.model_dump()

    def detect(self, images: Sequence[np.ndarray], asked: Sequence[Metadata]) -> list[list[Detected]]:
        """See `Detector.detect`."""
        return [[self._named(thing) for thing in detect_things(image)] for image in images]

    def _named(self, thing: Detection) -> Detected:
        score = COUNTING_THRESHOLD + (1 - COUNTING_THRESHOLD) * (thing.score - self.config.sure)
        score = score if thing.score > self.config.sure else 0.0
        return Detected(thing.shape, score, thing.box, thing.color)
