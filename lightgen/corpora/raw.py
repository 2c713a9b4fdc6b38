"""What every corpus yields: a caption as it was found, before any cleaning."""

from dataclasses import dataclass


@dataclass(frozen=True)
class RawCaption:
    """One caption of a corpus; `where` (file:row) is for messages only and never part of an id."""

    text: str | bytes | None
    source: str
    licence: str
    where: str
