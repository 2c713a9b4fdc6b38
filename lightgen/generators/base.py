"""The contract of every generator: captions and seeds in, images or failures out, row for row."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from lightgen.config import Member
from lightgen.errors import LightgenError
from lightgen.work import Work, Worker


@dataclass(frozen=True)
class Failure:
    """Why one caption has no image, for good; `reason` is a short slug, `detail` is for people."""

    reason: str
    detail: str


@dataclass(frozen=True)
class Retry:
    """Why one caption has no image now: a later attempt may draw it. Never sealed."""

    reason: str
    detail: str


@dataclass(frozen=True)
class Stop:
    """Why one caption has no image, and no other will have one now: the error ends the stage.

    What was drawn in the same batch is kept before.
    """

    error: LightgenError


@dataclass(frozen=True)
class Revised:
    """An image for which a service drew other words than those it was given."""

    pixels: np.ndarray
    caption: str


Drawn = np.ndarray | Revised | Failure | Retry | Stop


class Generator(Protocol):
    """Draws captions. Same identity, caption, seed and size: same pixels, whatever the batch."""

    def generate(self, captions: Sequence[str], seeds: Sequence[int], height_px: int, width_px: int) -> list[Drawn]:
        """One uint8 [height_px, width_px, 3] image, or the reason for its absence, for each caption, in order."""
        ...


class GeneratorMember(Member):
    """Settings of a generator. One that draws with a CHECKPOINT finds it among the parents of its work."""

    draws_with_checkpoint: ClassVar[bool] = False

    @abstractmethod
    def open(self, work: Work, worker: Worker) -> Generator:
        """The generator on the worker's device, weights loaded."""

    @property
    def wants_gpu(self) -> bool:
        """Whether it is much faster on a GPU."""
        return False

    @property
    def journals(self) -> bool:
        """Whether its images are paid for or take long: finished batches are then kept until the version is sealed."""
        return False

    @property
    def revises(self) -> bool:
        """Whether it may draw other words than those it was given, and say which."""
        return False

    @property
    def multiple_px(self) -> int:
        """Sides of its images are multiples of this."""
        return 1

    def cannot_draw(self, height_px: int, width_px: int) -> tuple[str, str]:
        """Why it draws no images of these sides, and what to do; two empty texts where it does."""
        unit = self.multiple_px
        if not height_px % unit and not width_px % unit:
            return "", ""
        near = " x ".join(str(max(1, round(side / unit)) * unit) for side in (height_px, width_px))
        return f"draws multiples of {unit} px, not {height_px} x {width_px}", f"take {near}"

    @property
    def usd_per_image(self) -> float:
        """What a service asks for an image."""
        return 0.0

    def flops(self, height_px: int, width_px: int) -> float | None:
        """Operations of one image, by formula; None where there is no formula."""
        return None

    @property
    def weight_bytes(self) -> float:
        """Memory of its weights; 0 for a generator that has none, or draws with a checkpoint."""
        return 0.0
