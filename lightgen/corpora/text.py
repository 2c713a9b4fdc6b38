"""Plain text: one caption a line."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from lightgen.corpora.lines import LineCorpus
from lightgen.corpora.raw import RawCaption


class TextCorpus(LineCorpus):
    """One caption a line."""

    kind: Literal["text"] = "text"

    def write(self, path: Path, captions: Sequence[str | None]) -> None:
        """See `FileCorpus.write`."""
        path.write_text("".join(f"{caption or ''}\n" for caption in captions), encoding="utf-8")

    def records(self, lines: Iterator[bytes], column: int | None) -> tuple[int, Iterator[bytes]]:
        """See `LineCorpus.records`."""
        return 0, lines

    def caption_of(self, record: bytes, row: int, column: int) -> RawCaption:
        """See `LineCorpus.caption_of`."""
        return self.caption(record.rstrip(b"\r\n"), row)
