"""Captioner `given`: the caption that a picture came with, repaired and within the limits."""

from collections.abc import Sequence
from typing import Literal

from lightgen.captioners.base import CaptionerMember, Rules, Shown, Written
from lightgen.corpora.cleaning import Cleaned, clean
from lightgen.work import Worker


class GivenCaptionerConfig(CaptionerMember):
    """No settings."""

    kind: Literal["given"] = "given"

    @property
    def looks(self) -> bool:
        """See `CaptionerMember.looks`."""
        return False

    def open(self, worker: Worker, rules: Rules) -> "GivenCaptioner":
        """See `CaptionerMember.open`."""
        return GivenCaptioner(rules)


class GivenCaptioner:
    """See the module."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules

    def write(self, shown: Sequence[Shown]) -> list[Written]:
        """See `Captioner.write`."""
        return [self._one(one.original) for one in shown]

    def _one(self, text: str) -> Written:
        found = clean(text, self.rules.limits, self.rules.count)
        if isinstance(found, Cleaned):
            return Written(found.caption, found.tokens)
        return Written(reason=found[0], detail=found[1])
