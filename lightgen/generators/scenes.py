"""Teacher `scenes`: draws compositional captions exactly, on any machine."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from lightgen.generators.base import TeacherFailure
from lightgen.scenes.draw import draw
from lightgen.scenes.grammar import parse


class ScenesConfig(BaseModel):
    """The built-in teacher has no settings: a caption and a seed decide the picture."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["scenes"] = "scenes"


class ScenesTeacher:
    """Paints what a caption says; captions outside the grammar fail row by row."""

    def __init__(self, config: ScenesConfig) -> None:
        self.config = config

    def identity(self) -> dict:
        """See `Teacher.identity`."""
        return {"kind": self.config.kind}

    def generate(
        self, captions: Sequence[str], seeds: Sequence[int], size_px: int
    ) -> list[np.ndarray | TeacherFailure]:
        """See `Teacher.generate`."""
        return [self._paint(caption, seed, size_px) for caption, seed in zip(captions, seeds, strict=True)]

    @staticmethod
    def _paint(caption: str, seed: int, size_px: int) -> np.ndarray | TeacherFailure:
        scene = parse(caption)
        if scene is None:
            return TeacherFailure("teacher_failure", f"the scenes teacher does not know {caption[:200]!r}")
        return draw(scene, size_px, seed)
