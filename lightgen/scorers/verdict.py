"""What a judge says about one image."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Verdict:
    """`score` is 0 to 1, `passed` the threshold's decision, `answer` all that was looked at (JSON), to judge again."""

    score: float
    passed: bool
    answer: dict[str, Any]
    reason: str = ""
    judged: bool = True


def unjudged(reason: str, answer: dict[str, Any]) -> Verdict:
    """No verdict: the judge's answer cannot be used; `reason` is a reject reason."""
    return Verdict(0.0, False, answer, reason, judged=False)
