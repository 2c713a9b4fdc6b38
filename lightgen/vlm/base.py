"""The contract of every vision-language model: pictures and a question in, log-probabilities or a text out."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from lightgen.config import Member
from lightgen.storage.pixels import Pixels
from lightgen.work import Worker
from schemas.scores import Unscored

YES, NO = "yes", "no"
# What a tiny model answers in a rehearsal: capitals, which no question has.
REHEARSED = ("YES", " YES", "NO", " NO")


@dataclass(frozen=True)
class Asked:
    """A question about one or more pictures, which the model sees in their order, before the text."""

    pictures: tuple[Pixels, ...]
    text: str
    system: str = ""


@dataclass(frozen=True)
class YesNo:
    """Natural logarithm of the probability that the answer begins with yes, or with no, in any spelling.

    `bound` names the side that was too unlikely to be told: its value is then the most that it can be.
    """

    yes: float
    no: float
    bound: str = ""


@dataclass(frozen=True)
class Draw:
    """How a text is written: greedily at temperature 0, else drawn; the seeds are one for each question."""

    temperature: float = 0.0
    seeds: tuple[int, ...] = field(default=())


class VisionLanguageModel(Protocol):
    """Looks at pictures. An answer does not depend on what else is asked, but for rounding.

    Reasons in `lightgen.http.UNSETTLED` are no answers: whoever asks keeps the others, and raises the error.
    """

    def yes_no(self, asked: Sequence[Asked]) -> list[YesNo | Unscored]:
        """How likely yes and no are as the next words, for each question in order."""
        ...

    def write(self, asked: Sequence[Asked], max_tokens: int, draw: Draw = Draw()) -> list[str | Unscored]:
        """What the model writes, at most `max_tokens` of it, for each question in order."""
        ...


class VlmMember(Member):
    """Settings of a vision-language model."""

    @abstractmethod
    def open(self, worker: Worker) -> VisionLanguageModel:
        """The model on the worker's device, or a client of its server."""

    @property
    def wants_gpu(self) -> bool:
        """Whether it is much faster on a GPU."""
        return False

    @property
    def together(self) -> int:
        """Questions that it answers at once."""
        return 8

    @property
    def weight_bytes(self) -> float:
        """Memory of its weights; 0 where they are elsewhere."""
        return 0.0

    def flops(self, height_px: int, width_px: int, tokens: float) -> float | None:
        """Operations of questions of so many tokens in all about one picture; None where they are done elsewhere."""
        return None


def spells(token: str) -> str:
    """Which answer a token is, in whatever spelling: YES, NO, or ""."""
    word = token.strip(" \t\r\n\u2581\u0120\u010a").casefold()
    return word if word in (YES, NO) else ""
