"""The contract of every captioner: pictures with the captions they came with in, new captions out, row for row."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from lightgen.config import Member
from lightgen.corpora.cleaning import Limits
from lightgen.corpora.tokenizer import Count
from lightgen.storage.pixels import Pixels
from lightgen.work import Worker

GIVEN = "given"


@dataclass(frozen=True)
class Shown:
    """A picture that wants a caption of a style. `pixels` is None for a captioner that does not look."""

    pixels: Pixels | None
    original: str
    style: str
    seed: int


@dataclass(frozen=True)
class Written:
    """A caption with its tokens, or the reason why there is none; `answer` is what a model said, in its own words.

    Reasons in `lightgen.http.UNSETTLED` end the stage; all others refuse the picture.
    """

    caption: str = ""
    tokens: int = 0
    answer: str = ""
    reason: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Rules:
    """What every caption must be, in tokens of the student's text encoder."""

    limits: Limits
    count: Count


class Captioner(Protocol):
    """Writes captions. Same picture, style and seed: same caption, whatever the batch, but for rounding."""

    def write(self, shown: Sequence[Shown]) -> list[Written]:
        """A caption, or why there is none, for each picture in order."""
        ...


class CaptionerMember(Member):
    """Settings of a captioner."""

    @abstractmethod
    def open(self, worker: Worker, rules: Rules) -> Captioner:
        """The captioner on the worker's device."""

    @property
    def styles_by_weight(self) -> dict[str, float]:
        """Names of the styles that it writes in, and how often each."""
        return {GIVEN: 1.0}

    @property
    def looks(self) -> bool:
        """Whether it looks at pictures."""
        return True

    @property
    def wants_gpu(self) -> bool:
        """Whether it is much faster on a GPU."""
        return False

    @property
    def journals(self) -> bool:
        """Whether its captions are paid for or take long: finished batches are then kept until all are sealed."""
        return False

    @property
    def batch(self) -> int:
        """Pictures that it wants to see together."""
        return 64

    @property
    def weight_bytes(self) -> float:
        """Memory of its weights; 0 where it has none."""
        return 0.0

    def flops(self, height_px: int, width_px: int) -> float | None:
        """Operations of a caption, by formula; None where there is no formula."""
        return None
