"""Captions of the scene world: written by the grammar, balanced over GenEval's six tasks."""

import itertools
from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from lightgen.config import Member
from lightgen.corpora.raw import RawCaption
from lightgen.scenes.grammar import TASKS, Split, Task, captions


class ScenesCorpus(Member):
    """`count` captions of one split, as many of each task; a task that has fewer gives all it has."""

    kind: Literal["scenes"] = "scenes"
    split: Split = Field(description="by content: no scene is in two splits")
    count: int = Field(ge=6)

    @property
    def sources(self) -> set[str]:
        """What its captions may name as their source."""
        return {f"scenes/{self.split}/{task}" for task in TASKS}

    def read(self) -> Iterator[RawCaption]:
        """The captions, task after task in turns; the source of each names its split and its task."""
        pools = (self._of_task(task) for task in TASKS)
        turns = itertools.chain.from_iterable(itertools.zip_longest(*pools))
        for row, (text, task) in enumerate(turn for turn in turns if turn is not None):
            yield RawCaption(text, f"scenes/{self.split}/{task}", "CC0-1.0", f"scenes:{row}")

    def _of_task(self, task: Task) -> Iterator[tuple[str, Task]]:
        return ((text, task) for text in itertools.islice(captions(self.split, task), self.count // len(TASKS)))
