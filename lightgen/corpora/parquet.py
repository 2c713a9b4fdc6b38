"""Parquet: one column of text, or of lists of texts. Its ranges are rows, wherever the row groups end."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, ClassVar, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from lightgen.corpora import places
from lightgen.corpora.base import input_changed
from lightgen.corpora.column_corpus import ColumnCorpus
from lightgen.corpora.columns import inner, type_of
from lightgen.corpora.parquet_limits import check, sound, unchecked, with_dictionaries
from lightgen.corpora.ranges import Inventory, Place, values_digest
from lightgen.corpora.raw import BATCH_ROWS, RawCaptions
from lightgen.corpora.spool import read_spool, write_spool
from lightgen.seeds import content_id

SPOOL = pa.schema([pa.field("value", pa.large_binary())])
SPOOLED = 8  # a row group of more ranges than this is decoded into a scratch file


@dataclass(frozen=True)
class Opened:
    """A file whose column may be read: its type, the names on the way to it, and whether dictionaries are in it."""

    parquet: pq.ParquetFile
    names: list[str]
    kind: pa.DataType
    dictionaries: bool

    def columns(self, groups: Sequence[int]) -> Iterator[pa.Array]:
        """The column in these row groups, in parts."""
        wanted = [".".join(self.names)]  # one column, which threads would only hand to and fro
        together = [[group] for group in groups] if self.dictionaries else [groups]  # each group has its own dictionary
        for some in together:
            for batch in self.parquet.iter_batches(BATCH_ROWS, row_groups=some, columns=wanted, use_threads=False):
                yield inner(batch.column(0), self.names)


class ParquetColumn(ColumnCorpus):
    """What kinds of Parquet share. A file whose column would unpack to far more than the file is, is refused."""

    ENDINGS: ClassVar[tuple[str, ...]] = (".parquet", ".parq", ".pq")

    def write(self, path: Path, captions: Sequence[str | None]) -> None:
        """See `FileCorpus.write`."""
        values = pa.array(captions, pa.string())
        for name in reversed(self.column.split(".")[1:]):
            values = pa.StructArray.from_arrays([values], [name])
        pq.write_table(pa.table({"id": range(len(captions)), self.column.split(".")[0]: values}), path)

    def columns_in(self, file: BinaryIO) -> tuple[pa.DataType, Iterator[pa.Array]]:
        """See `ColumnCorpus.columns_in`."""
        opened = self._opened(file)
        return opened.kind, opened.columns(range(opened.parquet.metadata.num_row_groups))

    def read_range(self, inventory: Inventory, place: Place, scratch: Path) -> RawCaptions:
        """See `Corpus.read_range`. On disk at most the text of the row groups that are being read."""
        spools = scratch / content_id("parquet", inventory.sha256, self.column)
        with self.watched(inventory, place), places.seekable(self.path) as file, sound(self.path):
            opened = self._opened(file, place.rows)
            values = self._range(opened, place, spools)
        if values_digest(values) != place.range.sha256:
            for path in spools.glob("*"):
                path.unlink(missing_ok=True)
            raise input_changed(self.path, place)
        return self.of_values(values, place.first, opened.kind)

    def _range(self, opened: Opened, place: Place, spools: Path) -> pa.LargeBinaryArray:
        """The values of a range, from the row groups that it lies in."""
        parts, before = [pa.array([], pa.large_binary())], 0
        for group in range(opened.parquet.metadata.num_row_groups):
            size = opened.parquet.metadata.row_group(group).num_rows
            first, last = max(place.first - before, 0), min(place.first + place.range.rows - before, size)
            before += size
            if first < last:
                large = size > SPOOLED * place.range.rows
                read = self._spooled if large else self._decoded
                parts.append(read(opened, group, first, last - first, spools))
        return pa.concat_arrays(parts)

    def _decoded(self, opened: Opened, group: int, first: int, rows: int, spools: Path) -> pa.LargeBinaryArray:
        return pa.concat_arrays(list(self._values(opened, group)))[first : first + rows]

    def _spooled(self, opened: Opened, group: int, first: int, rows: int, spools: Path) -> pa.LargeBinaryArray:
        path = spools / f"{group}.arrow"
        if not path.exists():
            spools.mkdir(exist_ok=True)
            batches = (pa.record_batch([values], schema=SPOOL) for values in self._values(opened, group))
            write_spool(path, SPOOL, batches)
        return pa.concat_arrays([pa.array([], pa.large_binary()), *read_spool(path, first, rows)["value"].chunks])

    def _values(self, opened: Opened, group: int) -> Iterator[pa.LargeBinaryArray]:
        return map(self.values, opened.columns([group]))

    def _opened(self, file: BinaryIO, rows: range | None = None) -> Opened:
        parquet = unchecked(file, self.path)
        schema = parquet.schema_arrow  # made again each time that it is asked for
        names = self.names_in(schema)
        check(parquet, file, self.path, [".".join(names)], rows)
        kind = type_of(schema, names)
        if repeated := _repeated(parquet.metadata, names, self.few(kind)):
            parquet = with_dictionaries(file, parquet.metadata, repeated)
        return Opened(parquet, names, kind, bool(repeated))

    def few(self, kind: pa.DataType) -> list[str]:
        """Fields within a column of this type that may have few values, each of which is read once."""
        return []


def _repeated(meta: pq.FileMetaData, names: list[str], fields: list[str]) -> list[str]:
    """Leaves of these fields whose values take less than a byte each, so that they must repeat."""
    if not fields or not meta.num_row_groups:
        return []
    group, within, ends = meta.row_group(0), ".".join(names) + ".", tuple(f".{name}" for name in fields)
    chunks = [group.column(at) for at in range(group.num_columns)]
    return [
        chunk.path_in_schema
        for chunk in chunks
        if chunk.path_in_schema.startswith(within)
        and chunk.path_in_schema.endswith(ends)
        and chunk.total_uncompressed_size < chunk.num_values
    ]


class ParquetCorpus(ParquetColumn):
    """One column of a Parquet file, of texts or of lists of texts."""

    kind: Literal["parquet"] = "parquet"
