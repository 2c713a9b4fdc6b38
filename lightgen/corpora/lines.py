"""Corpora of records in bytes: what text, JSON lines, tables and documents share. Ranges are bytes between records.

A file is read in pieces of a megabyte, in which all ends of records are found at once. Compressed files and other
encodings are read as what they unpack to; a worker unpacks such a file once, into the scratch folder.
"""

import codecs
import contextlib
import hashlib
import io
import os
import shutil
import uuid
from abc import abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Int64
from pydantic import Field, field_validator

from lightgen.config import QUIET
from lightgen.corpora import places
from lightgen.corpora.base import FileCorpus, input_changed
from lightgen.corpora.plain_bytes import BLOCK, UTF8, check_encoding, check_line_ends, compression_of, plain_bytes
from lightgen.corpora.ranges import Cutter, Inventory, Place
from lightgen.corpora.raw import RawCaptions
from lightgen.errors import InputCorrupt
from lightgen.seeds import content_id
from lightgen.storage.local import speaking_of_space

MAX_RECORD = 16 << 20  # bytes
SMALL = 4 << 10  # bytes that are asked for at least: not every file says how many it has
COMPRESSED = ("", ".gz", ".bz2", ".xz", ".zst")
PACKED = "packed"
Ends = Int64[np.ndarray, " n"]
Find = Callable[[bytes, bool, tuple[str, ...]], "Records"]


class Records:
    """Whole records that lie one after the other in `data`, which may go on, and where each ends."""

    def __init__(self, data: bytes, ends: Ends) -> None:
        self.data, self.ends = data, ends

    def __len__(self) -> int:
        return len(self.ends)

    def first(self, count: int) -> "Records":
        """The first `count` of them."""
        return Records(self.data, self.ends[:count])

    @property
    def size(self) -> int:
        """Bytes of all of them."""
        return int(self.ends[-1]) if len(self.ends) else 0

    def at(self, place: int) -> bytes:
        """One of them, counted from 0, or from the last by -1."""
        place %= len(self.ends)
        return self.data[int(self.ends[place - 1]) if place else 0 : int(self.ends[place])]


class LineCorpus(FileCorpus):
    """A file of records that end where their bytes say."""

    encoding: str = Field(
        default=UTF8, json_schema_extra=QUIET, description="of the file, as Python names it: utf-16, latin-1, cp1252"
    )

    @field_validator("encoding")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            info = codecs.lookup(name)
            "".encode(name)
            codecs.getincrementaldecoder(name)("replace").decode(b"", final=True)
        except (LookupError, UnicodeError):
            raise ValueError(f"there is no encoding {name!r}; utf-8, utf-16, latin-1, cp1252 are some") from None
        return UTF8 if info.name in (UTF8, "utf-8-sig") else info.name

    def told(self, head: bytes) -> tuple[str, ...]:
        """What the first bytes tell of how the records are written, see `Inventory.form`. Raises InputCorrupt."""
        check_line_ends(head, self.path)
        return ()

    def begin(self, file: BinaryIO, head: bytes, found: Inventory) -> tuple[Inventory, bytes]:
        """Passes over what stands before the first record, of which `head` was read already.

        Gives what is known now, `start` being the bytes passed over, and what was read of the records. Raises
        InputCorrupt.
        """
        return found, head

    def ends(self, data: bytes, last: bool, form: tuple[str, ...]) -> Ends:
        """Where in `data`, which begins with a record, whole records end; `last`: nothing comes after `data`."""
        found = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n")) + 1
        if last and data and not data.endswith(b"\n"):
            found = np.append(found, len(data))
        return found.astype(np.int64)

    def records(self, data: bytes, last: bool, form: tuple[str, ...]) -> Records:
        """Whole records that `data` begins with, at least one if there is one, with what else was found: see `ends`."""
        return Records(data, self.ends(data, last, form))

    def all_records(self, data: bytes, count: int, form: tuple[str, ...]) -> Records:
        """The `count` records of `data`, which holds nothing else."""
        return self.records(data, True, form)

    def check(self, records: Records, inventory: Inventory) -> None:
        """Raises InputCorrupt where the first records show that the settings are those of another file."""

    def over(self, rest: bytes) -> bool:
        """Whether `rest`, which stands after a record, shows that there are no more."""
        return False

    def check_end(self, last: bytes, rest: bytes) -> None:
        """Raises InputCorrupt where the last record and what stands after it show that the file was cut short."""

    @abstractmethod
    def captions(self, records: Records, first: int, inventory: Inventory) -> RawCaptions:
        """The captions of records; `first` is the row of the first of them."""

    def cut(self, rows: int) -> Inventory:
        """See `Corpus.cut`."""
        cutter = Cutter(rows, self.limit)
        with places.whole(self.path) as file:
            found, pieces = self._opened(file, lambda *of: Records(of[0], self.ends(*of)))
            for records in pieces:
                cutter.add(records.data, records.ends)
                if not cutter.left:
                    break
            return found.model_copy(update={"sha256": places.sha256_of(self.path, file), "ranges": cutter.finish()})

    def read_range(self, inventory: Inventory, place: Place, scratch: Path) -> RawCaptions:
        """See `Corpus.read_range`."""
        with self.watched(inventory, place):
            data = self._part(inventory, place, scratch)
        if hashlib.sha256(data).hexdigest() != place.range.sha256:
            raise input_changed(self.path, place)
        return self.captions(self.all_records(data, place.range.rows, inventory.form), place.first, inventory)

    def batches(self) -> Iterator[RawCaptions]:
        """See `Corpus.batches`."""
        with places.whole(self.path) as file:
            found, pieces = self._opened(file, self.records)
            first = 0
            for records in pieces:
                some = records if self.limit is None else records.first(self.limit - first)
                yield self.captions(some, first, found)
                first += len(some)
                if first == self.limit:
                    return

    def _opened(self, file: io.BufferedReader, records_in: Find) -> tuple[Inventory, Iterator[Records]]:
        """What is known before the first record, and the records in pieces. Raises InputCorrupt."""
        packed = bool(compression_of(file.peek(8)[:8])) or self.encoding != UTF8
        text = plain_bytes(file, self.path, self.encoding)
        # Room is made for all bytes that are asked for: a small file is not asked for many.
        block = BLOCK if packed else min(BLOCK, max(SMALL, os.fstat(file.fileno()).st_size + 1))
        mark = skip_mark(text)
        head = text.read(block)
        check_encoding(head, self.path)
        form = (*self.told(head), PACKED) if packed else self.told(head)
        found, rest = self.begin(text, head, Inventory(sha256="", form=form))
        pieces = self._pieces(iter(lambda: text.read(block), None), rest, found, records_in)
        return found.model_copy(update={"start": mark + found.start}), pieces

    def _pieces(self, blocks: Iterator[bytes], head: bytes, found: Inventory, records_in: Find) -> Iterator[Records]:
        rest, records, before = head, None, 0
        while not self.over(rest):
            block = next(blocks)
            rest += block
            some = records_in(rest, not block, found.form)
            if len(rest) > MAX_RECORD and (long := _longest(some))[1] > MAX_RECORD:
                raise InputCorrupt(
                    f"{self.path}: record {before + long[0] + 1:,} has more than {MAX_RECORD >> 20} MiB. Leave it "
                    "out, or check that the file is of the kind that the recipe names"
                )
            if len(some):
                if records is None:
                    self.check(some, found)
                yield some
                records, rest, before = some, rest[some.size :], before + len(some)
            elif not block and not self.over(rest):
                self.check_end(records.at(-1) if records else b"", rest)
                return

    def _part(self, inventory: Inventory, place: Place, scratch: Path) -> bytes:
        """The bytes of a range, unpacked."""
        if PACKED not in inventory.form:
            return places.part(self.path, place.offset, place.range.size)
        path = scratch / content_id("plain", inventory.sha256, self.encoding)
        if not path.exists():
            self._unpack(path)
        with path.open("rb") as file:
            file.seek(place.offset)
            data = file.read(place.range.size)
        if hashlib.sha256(data).hexdigest() != place.range.sha256:
            path.unlink(missing_ok=True)  # of a file that is not that of the inventory, or cut by a crash
        return data

    def _unpack(self, path: Path) -> None:
        temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
        try:
            with places.whole(self.path) as file, speaking_of_space(path.parent), temporary.open("wb") as copy:
                shutil.copyfileobj(plain_bytes(file, self.path, self.encoding), copy, BLOCK)
            os.replace(temporary, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()


def skip_mark(file: io.BufferedReader) -> int:
    """Pass over a byte order mark of UTF-8; its bytes."""
    size = len(codecs.BOM_UTF8) if file.peek(len(codecs.BOM_UTF8)).startswith(codecs.BOM_UTF8) else 0
    file.read(size)
    return size


def _longest(records: Records) -> tuple[int, int]:
    """Place and bytes of the longest record, or of what is read of the first."""
    if not len(records):
        return 0, len(records.data)
    sizes = np.diff(records.ends, prepend=0)
    return int(sizes.argmax()), int(sizes.max())
