"""Reads single rows of the binary columns of an uncompressed Parquet file, without decoding anything else.

Our writer stores binary columns uncompressed, without a dictionary and without nulls. The bytes of a value therefore
lie in one piece. `UncompressedParquet` reads the footer and the page headers once and computes the offset of every
value. Reading a row is then one system call, although a row group holds a whole shard.

Opening a file checks that the sizes of the values add up to the sizes of their pages, and reading a value checks its
length prefix. Damage inside a value is not noticed here: `lightgen verify` and `UncompressedParquet.verify_pages` find
it.

Rows are read by `preadv`, which is as fast as a memory map. A failing disk, or a file that is cut while it is read, is
an error; with a memory map it would be a SIGBUS. Random reads of a large version also leave no page tables behind,
which would take 2 MB for each GB in every process.
"""

import errno
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
from jaxtyping import Int64

from lightgen.errors import SchemaMismatch, StoreCorrupt
from lightgen.storage.page_headers import DataPage, data_pages

LENGTH_PREFIX = 4  # bytes before each value of variable size, which hold its size
MAX_OPEN_FILES = 256  # a version may have more shards than a process may have open files
# What reading without waiting ends with: a disk is to be waited for, or the file system always waits (tmpfs, NFS).
NOT_NOW = (errno.EAGAIN, errno.EOPNOTSUPP)


class OpenFiles:
    """Files open for reading, at most `max_open` at a time: the least recently used one is closed first.

    A pickled copy starts empty.
    """

    def __init__(self, max_open: int = MAX_OPEN_FILES) -> None:
        self.max_open = max_open
        self._descriptors: OrderedDict[str, int] = OrderedDict()

    def descriptor(self, path: str) -> int:
        """The file descriptor of `path`, valid until `max_open` other files were asked for. Raises OSError."""
        if path not in self._descriptors:
            while len(self._descriptors) >= self.max_open:
                os.close(self._descriptors.popitem(last=False)[1])
            self._descriptors[path] = os.open(path, os.O_RDONLY)
        self._descriptors.move_to_end(path)
        return self._descriptors[path]

    def close(self) -> None:
        """Close all files."""
        while self._descriptors:
            os.close(self._descriptors.popitem()[1])

    def __reduce__(self) -> tuple[type["OpenFiles"], tuple[int]]:
        return OpenFiles, (self.max_open,)

    def __del__(self) -> None:
        self.close()


@dataclass(frozen=True)
class BinaryColumn:
    """Offset and size in bytes of every value of one binary column; `label` names the column in errors."""

    label: str
    path: str
    offsets: Int64[np.ndarray, " rows"]
    sizes: Int64[np.ndarray, " rows"]
    has_length_prefix: bool

    def prefetch(self, files: OpenFiles, row: int) -> None:
        """Ask the system to load the value of `row`, so that the disk reads the rows of a batch side by side."""
        descriptor = files.descriptor(self.path)
        os.posix_fadvise(descriptor, self.offsets.item(row), self.sizes.item(row), os.POSIX_FADV_WILLNEED)

    def read(self, files: OpenFiles, row: int, into: np.ndarray, wait: bool = True) -> bool:
        """Copy the value of `row` into `into`, contiguous memory of its size; whether it is there now.

        Without `wait` it is not where a disk would have to be waited for. Raises StoreCorrupt, OSError.
        """
        offset, size = self.offsets.item(row), into.nbytes
        prefix = bytearray(LENGTH_PREFIX if self.has_length_prefix else 0)
        try:
            flags = 0 if wait else os.RWF_NOWAIT
            count = os.preadv(files.descriptor(self.path), [prefix, into.data], offset - len(prefix), flags)
        except OSError as error:
            if wait or error.errno not in NOT_NOW:
                raise
            return False
        right = count == len(prefix) + size and (not prefix or int.from_bytes(prefix, "little") == size)
        if wait and not right:
            raise StoreCorrupt(
                f"{self.label}: row {row} does not hold {size} bytes at {offset}; the file was changed: run "
                "`lightgen verify`, then make this version again"
            )
        return right


class UncompressedParquet:
    """One Parquet file whose binary columns can be read by row. Raises StoreCorrupt if it is not one, or cut."""

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

    def fixed_size_column(self, name: str) -> BinaryColumn:
        """A FixedSizeBinary column. Raises SchemaMismatch, StoreCorrupt."""
        width = self.metadata.schema.column(self._column_index(name, "FIXED_LEN_BYTE_ARRAY")).length
        return self._column(name, np.full(self.rows, width), 0)

    def variable_size_column(self, name: str, sizes: Int64[np.ndarray, " rows"]) -> BinaryColumn:
        """A LargeBinary column whose values have the given sizes in bytes. Raises SchemaMismatch, StoreCorrupt."""
        self._column_index(name, "BYTE_ARRAY")
        return self._column(name, sizes, LENGTH_PREFIX)

    def pages(self, name: str) -> list[DataPage]:
        """The data pages of a binary column, in order. Raises SchemaMismatch, StoreCorrupt."""
        index, label = self._column_index(name), self._label(name)
        pages: list[DataPage] = []
        # Headers lie far apart: what follows one is not wanted.
        with _mapped(self.path, mmap.MADV_RANDOM) as data:
            for group in range(self.metadata.num_row_groups):
                chunk = self.metadata.row_group(group).column(index)
                if chunk.compression != "UNCOMPRESSED" or chunk.has_dictionary_page:
                    raise SchemaMismatch(
                        f"{label}: expected plain values, got {chunk.compression} {chunk.encodings}; one row cannot "
                        "be read: write it with lightgen.storage.parquet.write_parquet"
                    )
                size = chunk.total_compressed_size
                pages += data_pages(data, chunk.data_page_offset, size, chunk.num_values, label)
        return pages

    def verify_pages(self, name: str) -> None:
        """Read a whole column and compare each page with its CRC-32. Raises StoreCorrupt, SchemaMismatch."""
        pages, label = self.pages(name), self._label(name)
        if any(page.crc32 is None for page in pages):
            raise SchemaMismatch(f"{label} has no checksums; write it with lightgen.storage.parquet.write_parquet")
        with _mapped(self.path, mmap.MADV_SEQUENTIAL) as data:
            damaged = [
                page.offset for page in pages if zlib.crc32(data[page.offset : page.offset + page.size]) != page.crc32
            ]
        if damaged:
            raise StoreCorrupt(
                f"{label}: the page at byte {damaged[0]} is not what was written; make this version again"
            )

    def _label(self, name: str) -> str:
        return f"{self.path}: column {name!r}"

    def _column_index(self, name: str, physical_type: str | None = None) -> int:
        """The index of a required binary column among all columns."""
        schema = self.metadata.schema
        names = [schema.column(index).path for index in range(len(schema))]
        if name not in names:
            raise SchemaMismatch(f"{self.path}: no column {name!r}; it has {', '.join(names)}")
        column = schema.column(names.index(name))
        levels = column.max_definition_level + column.max_repetition_level
        if levels or physical_type not in (None, column.physical_type):
            raise SchemaMismatch(
                f"{self._label(name)}: expected {physical_type} without nulls, got {column.physical_type}"
                f"{', nullable or nested' if levels else ''}"
            )
        return names.index(name)

    def _column(self, name: str, sizes: Int64[np.ndarray, " rows"], prefix: int) -> BinaryColumn:
        """Offsets of all values: those of the pages, plus the sizes of the values before in the same page."""
        pages, label = self.pages(name), self._label(name)
        counts = np.array([page.num_values for page in pages], np.int64)
        if counts.sum() != self.rows or len(sizes) != self.rows:
            raise StoreCorrupt(f"{label}: {counts.sum()} values of {len(sizes)} expected in {self.rows} rows")
        bytes_before = np.concatenate([[0], np.cumsum(sizes + prefix)])
        last = np.cumsum(counts)
        _check_page_sizes(label, pages, bytes_before[last] - bytes_before[last - counts])
        page_offsets = np.array([page.offset for page in pages], np.int64)
        offsets = np.repeat(page_offsets - bytes_before[last - counts], counts) + bytes_before[:-1] + prefix
        return BinaryColumn(label, str(self.path), offsets, sizes, bool(prefix))


def _check_page_sizes(label: str, pages: list[DataPage], expected: Int64[np.ndarray, " pages"]) -> None:
    wrong = np.flatnonzero(expected != np.array([page.size for page in pages], np.int64))
    if len(wrong):
        page = pages[wrong[0]]
        raise StoreCorrupt(
            f"{label}: the page at byte {page.offset} has {page.size} bytes, its {page.num_values} values should take "
            f"{expected[wrong[0]]}; sizes and values are not of one file, or it is damaged: run `lightgen verify`"
        )


@contextmanager
def _mapped(path: Path, advice: int) -> Iterator[memoryview]:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as whole:
        whole.madvise(advice)
        with memoryview(whole) as data:
            yield data
