"""Single rows of the binary columns of a Parquet file, read in place: a map of where each value lies, then one read.

Our writer stores binary columns plain: not compressed, no dictionary, no nulls. So the bytes of a row lie in one piece,
and a row group (a whole shard) need not be decoded to get at it. Opening a file reads its footer and the headers of its
pages; that values add up to their pages, and that each text has the length it should, is checked, damage inside a value
is not: `lightgen verify` finds that, and so does `PlainFile.verify_pages`.

Rows are read by `preadv`, as fast as through a memory map: a failing disk or a file cut meanwhile is an error and no
SIGBUS, and a large version that was read at random leaves no page tables (2 MB for each GB) in every process.
"""

import mmap
import os
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int64, UInt8

from lightgen.errors import SchemaMismatch, StoreCorrupt
from lightgen.storage.page_headers import Page, data_pages

PREFIX = 4  # bytes before each value of variable length, which hold its length
OPEN_FILES = 256  # a version may have more shards than a process may have open files
Bytes = UInt8[np.ndarray, " size"]


class OpenFiles:
    """Files open for reading; beyond `most` the one used longest ago is closed. A pickled copy starts empty."""

    def __init__(self, most: int = OPEN_FILES) -> None:
        self.most = most
        self._numbers: OrderedDict[Path, int] = OrderedDict()

    def number(self, path: Path) -> int:
        """The file descriptor of `path`; good until `most` other files were asked for."""
        if path not in self._numbers:
            while len(self._numbers) >= self.most:
                os.close(self._numbers.popitem(last=False)[1])
            self._numbers[path] = os.open(path, os.O_RDONLY)
        self._numbers.move_to_end(path)
        return self._numbers[path]

    def close(self) -> None:
        """Close all."""
        while self._numbers:
            os.close(self._numbers.popitem()[1])

    def __reduce__(self) -> tuple[type["OpenFiles"], tuple[int]]:
        return OpenFiles, (self.most,)

    def __del__(self) -> None:
        self.close()


@dataclass(frozen=True)
class Column:
    """Where the value of every row of a column lies in its file."""

    where: str
    path: Path
    start: Int64[np.ndarray, " rows"]
    size: Int64[np.ndarray, " rows"]
    prefixed: bool

    def expect(self, files: OpenFiles, row: int) -> None:
        """Have the system fetch a row that is read soon: the rows of a batch then come from the disk side by side."""
        os.posix_fadvise(files.number(self.path), int(self.start[row]), int(self.size[row]), os.POSIX_FADV_WILLNEED)

    def read(self, files: OpenFiles, row: int, into: Bytes) -> None:
        """Copy the value of `row` into `into`, which has its size. Raises StoreCorrupt."""
        start, size = int(self.start[row]), len(into)
        prefix = bytearray(PREFIX if self.prefixed else 0)
        got = os.preadv(files.number(self.path), [prefix, into.data], start - len(prefix))
        if got != len(prefix) + size or (self.prefixed and int.from_bytes(prefix, "little") != size):
            raise StoreCorrupt(
                f"{self.where}: row {row} does not hold {size} bytes at {start}; the file was changed: run "
                "`lightgen verify`, then make this version again"
            )


class PlainFile:
    """The plain binary columns of one Parquet file. Raises StoreCorrupt for what is no whole Parquet file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.metadata = pq.read_metadata(path)
        except (pa.ArrowInvalid, OSError) as error:
            raise StoreCorrupt(f"{path}: not readable as Parquet: {str(error)[:200]}") from error

    @property
    def rows(self) -> int:
        """Rows of the file."""
        return self.metadata.num_rows

    @cached_property
    def schema(self) -> pa.Schema:
        """The Arrow schema."""
        return self.metadata.schema.to_arrow_schema()

    def fixed(self, name: str) -> Column:
        """A column of values of one size (FixedSizeBinary). Raises SchemaMismatch, StoreCorrupt."""
        width = self.metadata.schema.column(self._number(name, "FIXED_LEN_BYTE_ARRAY")).length
        return self._column(name, np.full(self.rows, width), 0)

    def variable(self, name: str, sizes: Int64[np.ndarray, " rows"]) -> Column:
        """A column of values of known sizes (LargeBinary). Raises SchemaMismatch, StoreCorrupt."""
        self._number(name, "BYTE_ARRAY")
        return self._column(name, sizes, PREFIX)

    def pages(self, name: str) -> list[Page]:
        """The data pages of a plain binary column, in order."""
        number, where = self._number(name), f"{self.path}: column {name!r}"
        found: list[Page] = []
        # Headers lie far apart: what follows one is not wanted.
        with _mapped(self.path, mmap.MADV_RANDOM) as data:
            for group in range(self.metadata.num_row_groups):
                chunk = self.metadata.row_group(group).column(number)
                if chunk.compression != "UNCOMPRESSED" or chunk.has_dictionary_page:
                    raise SchemaMismatch(
                        f"{where}: expected plain values, got {chunk.compression} {chunk.encodings}; one row cannot "
                        "be read: write it with lightgen.storage.parquet.write_parquet"
                    )
                size = chunk.total_compressed_size
                found += data_pages(data, chunk.data_page_offset, size, chunk.num_values, where)
        return found

    def verify_pages(self, name: str) -> None:
        """Read a whole column and compare each page with its CRC-32. Raises StoreCorrupt."""
        pages, where = self.pages(name), f"{self.path}: column {name!r}"
        if any(page.crc is None for page in pages):
            raise SchemaMismatch(f"{where} has no checksums; write it with lightgen.storage.parquet.write_parquet")
        with _mapped(self.path, mmap.MADV_SEQUENTIAL) as data:
            damaged = [
                page.start for page in pages if zlib.crc32(data[page.start : page.start + page.size]) != page.crc
            ]
        if damaged:
            raise StoreCorrupt(
                f"{where}: the page at byte {damaged[0]} is not what was written; make this version again"
            )

    def _number(self, name: str, kind: str | None = None) -> int:
        """The place of a required binary column among all columns."""
        schema = self.metadata.schema
        names = [schema.column(number).path for number in range(len(schema))]
        if name not in names:
            raise SchemaMismatch(f"{self.path}: no column {name!r}; it has {', '.join(names)}")
        column = schema.column(names.index(name))
        levels = column.max_definition_level + column.max_repetition_level
        if levels or kind not in (None, column.physical_type):
            raise SchemaMismatch(
                f"{self.path}: column {name!r}: expected {kind} without nulls, got {column.physical_type}"
                f"{', nullable or nested' if levels else ''}"
            )
        return names.index(name)

    def _column(self, name: str, sizes: Int64[np.ndarray, " rows"], prefix: int) -> Column:
        pages, where = self.pages(name), f"{self.path}: column {name!r}"
        counts = np.array([page.values for page in pages], np.int64)
        if counts.sum() != self.rows or len(sizes) != self.rows:
            raise StoreCorrupt(f"{where}: {counts.sum()} values of {len(sizes)} expected in {self.rows} rows")
        ends = np.cumsum(sizes + prefix)
        before = np.concatenate([[0], ends])
        last = np.cumsum(counts)
        taken = before[last] - before[last - counts]
        wrong = np.flatnonzero(taken != np.array([page.size for page in pages], np.int64))
        if len(wrong):
            page = pages[wrong[0]]
            raise StoreCorrupt(
                f"{where}: the page at byte {page.start} has {page.size} bytes, its {page.values} values should take "
                f"{taken[wrong[0]]}; sizes and values are not of one file, or it is damaged: run `lightgen verify`"
            )
        begins = np.array([page.start for page in pages], np.int64)
        start = np.repeat(begins - before[last - counts], counts) + before[:-1] + prefix
        return Column(where, self.path, start, sizes, bool(prefix))


@contextmanager
def _mapped(path: Path, advice: int) -> Iterator[memoryview]:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as whole:
        whole.madvise(advice)
        with memoryview(whole) as data:
            yield data
