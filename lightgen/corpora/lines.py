"""Corpora of lines: what text, JSON lines and tables share. Their ranges are bytes between two lines."""

import codecs
import hashlib
import io
import itertools
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from lightgen.corpora import places
from lightgen.corpora.base import FileCorpus, input_changed
from lightgen.corpora.ranges import Cutter, Inventory, Place
from lightgen.corpora.raw import RawCaption
from lightgen.errors import InputCorrupt

MAX_LINE = 16 << 20


class LineCorpus(FileCorpus):
    """A file of records that end with a line."""

    @abstractmethod
    def records(self, lines: Iterator[bytes], column: int | None) -> tuple[int, Iterator[Any]]:
        """Which field of a record is the caption, and all records as they are parsed. Raises InputCorrupt.

        Without `column` the lines are those of a whole file, and its header is read before the first record is asked
        for.
        """

    @abstractmethod
    def caption_of(self, record: Any, row: int, column: int) -> RawCaption | None:
        """The caption of a record; None for one that holds none and counts as no row. Raises InputCorrupt."""

    def cut(self, rows: int) -> Inventory:
        """See `Corpus.cut`."""
        cutter = Cutter(rows)
        with places.whole(self.path) as file:
            mark = skip_mark(file)
            column, records = self.records(cutter.passing(checked_lines(file, self.path)), None)
            start = mark + cutter.skip()
            for _ in itertools.islice(records, self.limit):
                cutter.record()
            ranges = cutter.finish()
            return Inventory(sha256=places.sha256_of(self.path, file), start=start, column=column, ranges=ranges)

    def read_range(self, inventory: Inventory, place: Place, scratch: Path) -> list[RawCaption]:
        """See `Corpus.read_range`."""
        with self.watched(inventory, place):
            data = places.part(self.path, place.offset, place.range.size)
        if hashlib.sha256(data).hexdigest() != place.range.sha256:
            raise input_changed(self.path, place)
        column, records = self.records(io.BytesIO(data), inventory.column)
        rows = enumerate(records, place.first)
        return [found for row, record in rows if (found := self.caption_of(record, row, column)) is not None]

    def read(self) -> Iterator[RawCaption]:
        """See `Corpus.read`."""
        with places.whole(self.path) as file:
            skip_mark(file)
            column, records = self.records(checked_lines(file, self.path), None)
            for row, record in enumerate(itertools.islice(records, self.limit)):
                if (found := self.caption_of(record, row, column)) is not None:
                    yield found


def skip_mark(file: BinaryIO) -> int:
    """Pass over a byte order mark of UTF-8; its bytes."""
    if file.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8:
        return len(codecs.BOM_UTF8)
    file.seek(0)
    return 0


def checked_lines(file: BinaryIO, path: str) -> Iterator[bytes]:
    """Lines with their ends. Raises InputCorrupt for one that is longer than a caption can be."""
    number = 0
    while line := file.readline(MAX_LINE + 1):
        number += 1
        if len(line) > MAX_LINE:
            raise InputCorrupt(f"{path}:{number} is longer than {MAX_LINE >> 20} MiB; is this a text file?")
        yield line


def as_text(line: bytes) -> str:
    """Bytes that are not UTF-8 become lone surrogates, and those a reject in the cleaner."""
    return line.decode("utf-8", "surrogateescape")
