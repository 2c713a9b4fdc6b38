"""The contract of every teacher: captions and seeds in, images or failures out, row for row."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class TeacherFailure:
    """Why one caption has no image; `reason` is a short slug, `detail` is for people."""

    reason: str
    detail: str


class Teacher(Protocol):
    """Paints captions. Same identity, caption, seed and size: same pixels, whatever the batch."""

    def identity(self) -> dict:
        """What decides the pixels (kind, weights, settings), as JSON values; goes into the recipe."""
        ...

    def generate(
        self, captions: Sequence[str], seeds: Sequence[int], size_px: int
    ) -> list[np.ndarray | TeacherFailure]:
        """One uint8 [size_px, size_px, 3] image, or the reason for its absence, for each caption, in order."""
        ...
