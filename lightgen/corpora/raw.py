"""What every corpus yields: a caption as it was found, before any cleaning."""

from dataclasses import dataclass


@dataclass(frozen=True)
class RawCaption:
    """One caption of a corpus.

    `row` counts the records of the corpus from 0. `where` (file:row, from 1) is for messages only and part of no id.
    """

    text: str | bytes | None
    source: str
    licence: str
    where: str
    row: int
