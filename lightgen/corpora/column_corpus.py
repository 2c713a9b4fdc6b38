"""Corpora with one column of captions: what Parquet and Arrow files share."""

from collections.abc import Iterator
from typing import BinaryIO

import pyarrow as pa
from pydantic import Field

from lightgen.corpora import places
from lightgen.corpora.base import FileCorpus
from lightgen.corpora.columns import (
    Batch,
    batch_of,
    batch_of_column,
    column_named,
    is_list,
    is_text,
    lists_of_texts,
    plain_type,
    type_of,
    values_of,
)
from lightgen.corpora.fields import Found, missing_field
from lightgen.corpora.parquet_limits import sound
from lightgen.corpora.ranges import Inventory, cut_values
from lightgen.corpora.raw import RawCaptions
from lightgen.errors import InputCorrupt


class ColumnCorpus(FileCorpus):
    """One column, of texts or of lists of texts. Texts go into a batch as they lie in the file."""

    column: str = Field(default="caption", description="that of the captions; `a.b` is the field `b` of the struct `a`")

    def columns_in(self, file: BinaryIO) -> tuple[pa.DataType, Iterator[pa.Array]]:
        """The type of the column, and the column in parts. Raises InputCorrupt, pa.ArrowException."""
        raise NotImplementedError

    def reads(self, kind: pa.DataType) -> bool:
        """Whether captions can stand in a column of this type."""
        return is_text(kind) or (is_list(kind) and is_text(plain_type(kind.value_type)))

    def found_in(self, values: pa.Array) -> list[Found]:
        """The captions of rows whose values are no texts."""
        return lists_of_texts(values)

    def cut(self, rows: int) -> Inventory:
        """See `Corpus.cut`."""
        with places.native(self.path) as file:
            with sound(self.path):
                _, columns = self.columns_in(file)
                ranges = cut_values(map(self.values, columns), rows, self.limit)
            return Inventory(sha256=places.sha256_of(self.path, file), ranges=ranges)

    def batches(self) -> Iterator[RawCaptions]:
        """See `Corpus.batches`."""
        with places.native(self.path) as file, sound(self.path):
            (kind, columns), row = self.columns_in(file), 0
            for column in columns:
                some = column if self.limit is None else column[: self.limit - row]
                at_once = self.at_once(some, row)
                yield self.batch(*at_once) if at_once else self.of_values(self.values(some), row, kind)
                row += len(some)
                if row == self.limit:
                    return

    def of_values(self, values: pa.LargeBinaryArray, first: int, kind: pa.DataType) -> RawCaptions:
        """The captions in values of rows from `first` of a column of this type."""
        return self.batch(*batch_of(values, first, is_text(kind)))

    def at_once(self, column: pa.Array, first: int) -> Batch | None:
        """The captions of rows from `first` of a column, if none is so odd that it must be looked at."""
        return batch_of_column(column, first)

    def values(self, column: pa.Array) -> pa.LargeBinaryArray:
        """Values row by row, as bytes: text of a wrong encoding must reach the cleaner."""
        return values_of(column, self.found_in)

    def names_in(self, schema: pa.Schema) -> list[str]:
        """The names on the way to the column. Raises InputCorrupt where there is none, or none of text."""
        names = column_named(schema, self.column)
        if names is None:
            raise InputCorrupt(missing_field(self.path, self.column, schema.names, "column"))
        kind = type_of(schema, names)
        if not self.reads(kind):
            fields = (
                f"; `{self.column}.{kind.field(0).name}` would be a field of it" if pa.types.is_struct(kind) else ""
            )
            raise InputCorrupt(f"{self.path}: column {self.column!r} is {kind}, not text{fields}")
        return names
