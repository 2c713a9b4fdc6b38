"""Captions of the scene world: written by the grammar, balanced over GenEval's six tasks."""

import itertools
from collections.abc import Iterator
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from lightgen.corpora.raw import RawCaption
from lightgen.scenes.grammar import TASKS, Split, captions


class ScenesCorpus(BaseModel):
    """`count` captions of one split, as many of each task; a task that has fewer gives all it has."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["scenes"] = "scenes"
    split: Split = Field(description="by content: no scene is in two splits")
    count: int = Field(ge=6)

    def read(self) -> Iterator[RawCaption]:
        """The captions, task after task in turns."""
        pools = (itertools.islice(captions(self.split, task), self.count // len(TASKS)) for task in TASKS)
        turns = itertools.chain.from_iterable(itertools.zip_longest(*pools))
        for row, text in enumerate(text for text in turns if text is not None):
            yield RawCaption(text, f"scenes:{self.split}", "CC0-1.0", f"scenes:{row}")
