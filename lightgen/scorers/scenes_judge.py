"""The exact judge of the scene world: GenEval's rules over the exact detector."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import UInt8
from pydantic import BaseModel, ConfigDict

from lightgen.evaluation.detectors import ScenesDetector, ScenesDetectorConfig
from lightgen.evaluation.geneval import Detected, Metadata, judge_image, scene_metadata
from lightgen.scenes.grammar import parse
from lightgen.scorers.verdict import Verdict, unjudged


class ScenesJudgeConfig(BaseModel):
    """Settings of the judge."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["scenes"] = "scenes"
    detector: ScenesDetectorConfig = ScenesDetectorConfig()


class ScenesJudge:
    """Passes an image that shows what its caption says: colour, shape, count and place."""

    def __init__(self, config: ScenesJudgeConfig) -> None:
        self.config = config
        self.detector = ScenesDetector(config.detector)

    def identity(self) -> dict[str, Any]:
        """The detector's settings."""
        return {"kind": "scenes", "detector": self.detector.identity()}

    def judge(self, captions: Sequence[str], images: Sequence[UInt8[np.ndarray, "h w 3"]]) -> list[Verdict]:
        """One verdict an image; `not_a_scene_caption` where the caption is not in the scenes' language."""
        return [self._one(caption, image) for caption, image in zip(captions, images, strict=True)]

    def _one(self, caption: str, image: UInt8[np.ndarray, "h w 3"]) -> Verdict:
        scene = parse(caption)
        if scene is None:
            return unjudged("not_a_scene_caption", {"caption": caption})
        meaning = scene_metadata(scene)
        boxes = self.detector.detect([image], [meaning])[0]
        verdict = judge_image(boxes, meaning)
        answer = {"task": meaning.tag, "reason": verdict.reason, "detections": [_plain(box) for box in boxes]}
        score = 1.0 if verdict.correct else _share_met(verdict.reason, meaning)
        return Verdict(score, verdict.correct, answer, verdict.reason)


def _share_met(reason: str, meaning: Metadata) -> float:
    """How much of what was asked for is there: of every group, relation and upper limit."""
    asked = len(meaning.include) + len(meaning.exclude) + sum(group.position is not None for group in meaning.include)
    return max(0.0, 1 - len(reason.split("; ")) / asked)


def _plain(box: Detected) -> dict[str, Any]:
    place = [round(float(side), 2) for side in box.box]
    return {"class": box.name, "color": box.color, "score": round(float(box.score), 4), "box": place}
