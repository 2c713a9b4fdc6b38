"""Scorer `scenes`: the exact detector of the scene world; its scores are overlaps of silhouettes."""

import json
from collections.abc import Sequence
from typing import ClassVar, Literal

import pyarrow as pa

from lightgen.decisions.derive import Scenes
from lightgen.scenes.detect import Detection, detect
from lightgen.scorers.base import ScorerMember, answer_table
from lightgen.storage.pixels import Pixels
from lightgen.work import Worker

DETECTIONS = pa.schema(
    [
        pa.field(
            "detections",
            pa.string(),
            metadata={"format": "JSON list of class, color or null, score 0 to 1, box [x0, y0, x1, y1] in px"},
        )
    ]
)


class ScenesDetectorConfig(ScorerMember):
    """No settings: which overlap counts as recognised is for the rules to say."""

    ANSWERS: ClassVar[pa.Schema] = DETECTIONS

    kind: Literal["scenes"] = "scenes"

    @property
    def verdict(self) -> Scenes:
        """See `ScorerMember.verdict`."""
        return Scenes()

    def open(self, worker: Worker) -> "ScenesDetector":
        """See `ScorerMember.open`."""
        return ScenesDetector()


class ScenesDetector:
    """See `lightgen.scenes.detect`."""

    def score(self, images: Sequence[Pixels], captions: Sequence[str]) -> pa.Table:
        """See `Scorer.score`."""
        found = [json.dumps([_plain(thing) for thing in detect(image)]) for image in images]
        return answer_table(DETECTIONS, [{"detections": text} for text in found])


def _plain(thing: Detection) -> dict[str, object]:
    box = [round(float(side), 3) for side in thing.box]
    return {"class": thing.shape, "color": thing.color, "score": round(float(thing.score), 6), "box": box}
