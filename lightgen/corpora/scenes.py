"""Captions of the scene world: written by the grammar, balanced over GenEval's six tasks."""

import itertools
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Literal, Self

import numpy as np
import pyarrow as pa
from pydantic import Field

from lightgen.corpora.base import Corpus
from lightgen.corpora.ranges import Inventory, Place, cut_values, values_digest
from lightgen.corpora.raw import RawCaptions
from lightgen.errors import InputChanged
from lightgen.scenes.grammar import TASKS, Split, Task, captions

REHEARSED = 24  # captions in a rehearsal


class ScenesCorpus(Corpus):
    """`count` captions of one split, as many of each task; a task that has fewer gives all it has."""

    kind: Literal["scenes"] = "scenes"
    split: Split = Field(description="by content: no scene is in two splits")
    count: int = Field(ge=6, description="captions, of six tasks together")

    @property
    def key(self) -> str:
        """See `Corpus.key`."""
        return f"scenes/{self.split}"

    @property
    def given(self) -> str:
        """See `Corpus.given`."""
        return f"scenes:{self.split}"

    @property
    def sources(self) -> set[str]:
        """See `Corpus.sources`."""
        return {f"scenes/{self.split}/{task}" for task in TASKS}

    def rehearse(self, folder: Path) -> Self:
        """See `Config.rehearse`: a few captions of each task."""
        return self.model_copy(update={"count": min(self.count, REHEARSED)})

    def state(self) -> str:
        """See `Corpus.state`."""
        return values_digest(_texts(self.split, self.count))

    def cut(self, rows: int) -> Inventory:
        """See `Corpus.cut`."""
        return Inventory(sha256=self.state(), ranges=cut_values([_texts(self.split, self.count)], rows, None))

    def read_range(self, inventory: Inventory, place: Place, scratch: Path) -> RawCaptions:
        """See `Corpus.read_range`."""
        rows = slice(place.first, place.first + place.range.rows)
        if values_digest(_texts(self.split, self.count)[rows]) != place.range.sha256:
            raise InputChanged(
                f"{self.given}: this program writes other captions than the one that began the version. Run the same "
                "release everywhere, or begin again with this one"
            )
        return self._rows(rows)

    def batches(self) -> Iterator[RawCaptions]:
        """The captions, task after task in turns; the source of each names its split and its task."""
        yield self._rows(slice(0, len(_captions(self.split, self.count))))

    def _rows(self, rows: slice) -> RawCaptions:
        texts = _texts(self.split, self.count)[rows]
        sources = [f"scenes/{self.split}/{task}" for _, task in _captions(self.split, self.count)[rows]]
        return RawCaptions(texts, rows.start + np.arange(len(texts)), sources, "CC0-1.0", "scenes")


@cache
def _captions(split: Split, count: int) -> tuple[tuple[str, Task], ...]:
    pools: dict[Task, list[str]] = {
        task: list(itertools.islice(captions(split, task), count // len(TASKS))) for task in TASKS
    }
    turns = range(max(map(len, pools.values())))
    return tuple((pool[turn], task) for turn in turns for task, pool in pools.items() if turn < len(pool))


def _texts(split: Split, count: int) -> pa.LargeBinaryArray:
    return pa.array([text for text, _ in _captions(split, count)], pa.large_string()).cast(pa.large_binary())
