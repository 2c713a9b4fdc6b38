"""Plain text: one caption a line."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from lightgen.corpora.lines import COMPRESSED, LineCorpus, Records
from lightgen.corpora.ranges import Inventory
from lightgen.corpora.raw import RawCaptions, binary


class TextCorpus(LineCorpus):
    """One caption a line."""

    ENDINGS: ClassVar[tuple[str, ...]] = tuple(f".txt{packed}" for packed in COMPRESSED)
    kind: Literal["text"] = "text"

    def write(self, path: Path, captions: Sequence[str | None]) -> None:
        """See `FileCorpus.write`."""
        path.write_text("".join(f"{caption or ''}\n" for caption in captions), encoding=self.encoding)

    def captions(self, records: Records, first: int, inventory: Inventory) -> RawCaptions:
        """See `LineCorpus.captions`."""
        return self.batch(binary(lines_of(records)), first + np.arange(len(records.ends)))


def lines_of(records: Records) -> list[bytes]:
    """The lines, without their ends."""
    count = len(records)
    lines = records.data.split(b"\n", count)[:count]
    return [line.rstrip(b"\r") for line in lines] if b"\r" in records.data else lines
