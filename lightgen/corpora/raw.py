"""What every corpus yields: captions as they were found, before any cleaning, in batches of columns."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from jaxtyping import Int64

# Why a record of a file gives no caption. What is wrong with a caption itself, the cleaner says.
NOT_TEXT, MALFORMED, RAGGED = "caption_not_text", "record_malformed", "record_ragged"
BATCH_ROWS = 4096


@dataclass(frozen=True)
class RawCaption:
    """One caption of a corpus, or `refused`: the reason and the detail why the record holds none.

    `row` counts the records of the corpus from 0, `part` the captions of a record. `where` (file:row, from 1) is for
    messages only and part of no id.
    """

    text: bytes | None
    source: str
    licence: str
    where: str
    row: int
    part: int = 0
    refused: tuple[str, str] | None = None


@dataclass(frozen=True)
class RawCaptions:
    """Captions of records in order. Bytes of a wrong encoding are left to the cleaner; null is no caption.

    `part` counts the captions of a record; without it each record has one. `refused` says, by place in the batch, why
    there is no caption; what is shown of the record then stands in `text`.
    """

    text: pa.LargeBinaryArray
    row: Int64[np.ndarray, " n"]
    source: str | list[str]
    licence: str
    path: str
    part: Int64[np.ndarray, " n"] | None = None
    refused: Mapping[int, tuple[str, str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.text)

    def source_of(self, place: int) -> str:
        """What a caption names as its source."""
        return self.source if isinstance(self.source, str) else self.source[place]

    def where(self, place: int) -> str:
        """File and row of a caption, the row counted from 1."""
        return f"{self.path}:{self.row[place] + 1}"

    def __iter__(self) -> Iterator[RawCaption]:
        parts = np.zeros(len(self), np.int64) if self.part is None else self.part
        for place, (text, row, part) in enumerate(
            zip(self.text.to_pylist(), self.row.tolist(), parts.tolist(), strict=True)
        ):
            where, refused = f"{self.path}:{row + 1}", self.refused.get(place)
            yield RawCaption(text, self.source_of(place), self.licence, where, row, part, refused)


def binary(values: Sequence[bytes | None]) -> pa.LargeBinaryArray:
    """The values as a column."""
    return pa.array(values, pa.large_binary())
