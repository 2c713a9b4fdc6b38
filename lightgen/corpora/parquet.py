"""Parquet: one column of text. Its ranges are rows, wherever the row groups end."""

import contextlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from lightgen.corpora import places
from lightgen.corpora.base import FileCorpus, input_changed
from lightgen.corpora.ranges import Inventory, Place, cut_values, values_digest
from lightgen.corpora.raw import RawCaption
from lightgen.corpora.spool import read_spool, write_spool
from lightgen.errors import InputCorrupt
from lightgen.seeds import content_id

MAX_ROW_GROUPS, MAX_COLUMNS = 10_000, 1_000
MAX_EXPANSION, MAX_UNCOMPRESSED = 64, 4 << 30
BATCH_ROWS = 4096
SPOOL = pa.schema([pa.field("value", pa.large_binary())])
SPOOLED = 8  # a row group of more ranges than this is decoded into a scratch file
TEXT_TYPES = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
    pa.types.is_binary,
    pa.types.is_large_binary,
)


class ParquetCorpus(FileCorpus):
    """One column of a Parquet file. A file that would unpack to far more than it is, is refused."""

    kind: Literal["parquet"] = "parquet"
    column: str = Field(default="caption", description="that of the captions")

    def write(self, path: Path, captions: Sequence[str | None]) -> None:
        """See `FileCorpus.write`."""
        pq.write_table(pa.table({"id": range(len(captions)), self.column: pa.array(captions, pa.string())}), path)

    def cut(self, rows: int) -> Inventory:
        """See `Corpus.cut`."""
        with places.whole(self.path) as file:
            with sound(self.path):
                ranges = cut_values(self._values(self._opened(file)), rows, self.limit)
            return Inventory(sha256=places.sha256_of(self.path, file), ranges=ranges)

    def read_range(self, inventory: Inventory, place: Place, scratch: Path) -> list[RawCaption]:
        """See `Corpus.read_range`. On disk at most the text of the row groups that are being read."""
        spools = scratch / content_id("parquet", inventory.sha256, self.column)
        with self.watched(inventory, place), places.seekable(self.path) as file, sound(self.path):
            values = self._range(self._opened(file), place, spools)
        if values_digest(values) != place.range.sha256:
            for path in spools.glob("*"):
                path.unlink(missing_ok=True)
            raise input_changed(self.path, place)
        return [self.caption(text, row) for row, text in enumerate(values.to_pylist(), place.first)]

    def read(self) -> Iterator[RawCaption]:
        """See `Corpus.read`."""
        with places.whole(self.path) as file, sound(self.path):
            row = 0
            for values in self._values(self._opened(file)):
                for text in values.to_pylist():
                    if row == self.limit:
                        return
                    yield self.caption(text, row)
                    row += 1

    def _range(self, parquet: pq.ParquetFile, place: Place, spools: Path) -> pa.LargeBinaryArray:
        """The values of a range, from the row groups that it lies in."""
        parts, before = [pa.array([], pa.large_binary())], 0
        for group in range(parquet.metadata.num_row_groups):
            size = parquet.metadata.row_group(group).num_rows
            first, last = max(place.first - before, 0), min(place.first + place.range.rows - before, size)
            before += size
            if first < last:
                large = size > SPOOLED * place.range.rows
                read = self._spooled if large else self._decoded
                parts.append(read(parquet, group, first, last - first, spools))
        return pa.concat_arrays(parts)

    def _decoded(self, parquet: pq.ParquetFile, group: int, first: int, rows: int, spools: Path) -> pa.LargeBinaryArray:
        return pa.concat_arrays(list(self._values(parquet, group)))[first : first + rows]

    def _spooled(self, parquet: pq.ParquetFile, group: int, first: int, rows: int, spools: Path) -> pa.LargeBinaryArray:
        path = spools / f"{group}.arrow"
        if not path.exists():
            spools.mkdir(exist_ok=True)
            batches = (pa.record_batch([values], schema=SPOOL) for values in self._values(parquet, group))
            write_spool(path, SPOOL, batches)
        return pa.concat_arrays([pa.array([], pa.large_binary()), *read_spool(path, first, rows)["value"].chunks])

    def _values(self, parquet: pq.ParquetFile, group: int | None = None) -> Iterator[pa.LargeBinaryArray]:
        """The column of one row group or of all, as bytes: text of a wrong encoding must reach the cleaner."""
        groups = range(parquet.metadata.num_row_groups) if group is None else [group]
        for batch in parquet.iter_batches(batch_size=BATCH_ROWS, row_groups=groups, columns=[self.column]):
            yield batch.column(0).cast(pa.large_binary())

    def _opened(self, file: BinaryIO) -> pq.ParquetFile:
        parquet = opened(file, self.path)
        self._check(parquet)
        return parquet

    def _check(self, parquet: pq.ParquetFile) -> None:
        schema = parquet.schema_arrow
        if self.column not in schema.names:
            raise InputCorrupt(
                f"{self.path} has no column {self.column!r}; it has {', '.join(schema.names)}: set `column`"
            )
        kind = schema.field(self.column).type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        if not any(is_text(kind) for is_text in TEXT_TYPES):
            raise InputCorrupt(f"{self.path}: column {self.column!r} is {kind}, not text")


def opened(file: BinaryIO, path: str) -> pq.ParquetFile:
    """A Parquet file, page checksums verified. Raises InputCorrupt where it would unpack to far more than it is."""
    parquet = pq.ParquetFile(file, page_checksum_verification=True)
    _check_footer(parquet.metadata, file, path)
    return parquet


@contextlib.contextmanager
def sound(path: str) -> Iterator[None]:
    """Raises InputCorrupt with the path where what is read within is no Parquet file."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise InputCorrupt(f"{path} is not a sound Parquet file: {error}. Fetch or write it again") from error


def _check_footer(meta: pq.FileMetaData, file: BinaryIO, path: str) -> None:
    """Raises InputCorrupt for a file that would unpack to far more than it is, or has too many parts."""
    size = file.seek(0, io.SEEK_END)
    unpacked = sum(meta.row_group(i).total_byte_size for i in range(min(meta.num_row_groups, MAX_ROW_GROUPS)))
    if meta.num_row_groups > MAX_ROW_GROUPS or meta.num_columns > MAX_COLUMNS:
        raise InputCorrupt(f"{path} has {meta.num_row_groups} row groups and {meta.num_columns} columns: too many")
    if unpacked > MAX_UNCOMPRESSED or unpacked > MAX_EXPANSION * max(size, 1 << 16):
        raise InputCorrupt(f"{path}: {size} bytes unpack to {unpacked}; more than {MAX_EXPANSION} times is refused")
