"""Link tables in Parquet: LAION's releases, DataComp's, and what img2dataset writes beside its shards.

Columns are found by name in any case: see `lightgen.corpora.link_columns`.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal, Self

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from lightgen.config import RUN, Member
from lightgen.corpora import places
from lightgen.corpora.base import input_changed
from lightgen.corpora.fields import listed
from lightgen.corpora.link_columns import (
    RAW,
    columns_of,
    cut_rows,
    partitions_of,
    renamed,
    rows_digest,
    unreadable,
)
from lightgen.corpora.parquet import SPOOLED
from lightgen.corpora.parquet_limits import opened, sound, unchecked
from lightgen.corpora.ranges import Inventory, Place
from lightgen.corpora.raw import BATCH_ROWS
from lightgen.corpora.spool import read_spool, write_spool
from lightgen.errors import InputCorrupt
from lightgen.problems import Problem
from lightgen.seeds import content_id


class LaionLinks(Member):
    """A table of links: one file, all Parquet files of a folder, or those that fit a pattern, in order of their names.

    Memory: one range of rows; on disk at most the row groups that are being read, decoded.
    """

    kind: Literal["laion"] = "laion"
    path: str = Field(
        description="a Parquet file, a folder of them or a pattern, local or s3://bucket/key", json_schema_extra=RUN
    )
    source: str = Field(default="laion", description="name kept with every link")
    licence: str = Field(default="unknown", description="of a row that names none")
    caption_column: str | None = Field(
        default=None, description="null: top_caption, caption, text or txt, the first that the file has"
    )
    # Which rows are read stands in the inventories.
    limit: int | None = Field(default=None, ge=1, description="only the first so many rows", json_schema_extra=RUN)

    @property
    def key(self) -> str:
        """Names its records beside file and row; stays when the corpus grows or moves."""
        return self.source

    @property
    def given(self) -> str:
        """Where it lies, as the user gave it: for people, in no name."""
        return self.path

    def files(self) -> list[Self]:
        """The same for each of its files, whose `limit` is what is left of that of all. Raises InputCorrupt."""
        paths, left, found = places.files_of(self.path, ".parquet"), self.limit, []
        if not paths:
            raise InputCorrupt(f"{self.path} holds no Parquet files. Check the path")
        for path in paths:
            one = self.model_copy(update={"path": path, "limit": left})
            if left is not None:
                left -= min(left, one._footer()[0])
            found.append(one)
            if left == 0:
                break
        return found

    def problems(self) -> Iterator[Problem]:
        """See `Config.problems`: files and columns that are not there."""
        try:
            for one in self.files():
                one.columns()
        except InputCorrupt as error:
            yield Problem("here", "", str(error), "put the file in its place, or change the recipe")

    def columns(self) -> dict[str, str]:
        """Columns of this file by what we call them. Raises InputCorrupt where links or captions have none."""
        schema = self._footer()[1]
        found = columns_of(schema, self.caption_column)
        for needed in ("url", "caption"):
            if needed not in found:
                fix = "set `caption_column`" if needed == "caption" else "is it a table of links?"
                why = unreadable(schema, needed, self.caption_column) or f"it has {listed(schema.names)}"
                raise InputCorrupt(f"{self.path} has no column for the {needed}; {why}: {fix}")
        return found

    def known(self) -> dict[str, str]:
        """The same, and what the folders that it lies in say of all its rows, under our names."""
        return {ours: ours for ours in partitions_of(self.path)} | self.columns()

    def state(self) -> str:
        """A text that differs when the file does. Raises InputCorrupt."""
        partitions = partitions_of(self.path)
        return places.state_of(self.path) + (json.dumps(partitions) if partitions else "")

    def cut(self, rows: int) -> Inventory:
        """Read the file once and cut it into ranges of `rows` rows. Memory: one range. Raises InputCorrupt."""
        columns = self.columns()
        with places.whole(self.path) as file:
            with sound(self.path):
                ranges = cut_rows(self._batches(self._opened(file, columns), columns), rows, self.limit)
            return Inventory(sha256=places.sha256_of(self.path, file), ranges=ranges)

    def read_range(self, inventory: Inventory, place: Place, scratch: Path) -> pa.Table:
        """The rows of one range, as RAW. Raises InputChanged where they are not those of the inventory, InputCorrupt.

        `scratch` is a folder for unpacked data, shared by all ranges and workers of this machine.
        """
        spools = scratch / content_id("links", inventory.sha256, self.caption_column, *partitions_of(self.path).items())
        try:
            columns = self.columns()
            with places.seekable(self.path) as file, sound(self.path):
                table = self._range(self._opened(file, columns, place.rows), columns, place, spools)
        except InputCorrupt as error:
            if places.sha256_of(self.path) == inventory.sha256:
                raise
            raise input_changed(self.path, place) from error
        if rows_digest(table) != place.range.sha256:
            for path in spools.glob("*"):
                path.unlink(missing_ok=True)
            raise input_changed(self.path, place)
        return table

    def _range(self, parquet: pq.ParquetFile, columns: dict[str, str], place: Place, spools: Path) -> pa.Table:
        parts, before = [RAW.empty_table()], 0
        for group in range(parquet.metadata.num_row_groups):
            size = parquet.metadata.row_group(group).num_rows
            first, last = max(place.first - before, 0), min(place.first + place.range.rows - before, size)
            before += size
            if first >= last:
                continue
            batches = self._batches(parquet, columns, group)
            if size <= SPOOLED * place.range.rows:
                parts.append(pa.Table.from_batches(batches, schema=RAW).slice(first, last - first))
                continue
            path = spools / f"{group}.arrow"
            if not path.exists():
                spools.mkdir(exist_ok=True)
                write_spool(path, RAW, batches)
            parts.append(read_spool(path, first, last - first))
        return pa.concat_tables(parts)

    def _batches(
        self, parquet: pq.ParquetFile, columns: dict[str, str], group: int | None = None
    ) -> Iterator[pa.RecordBatch]:
        groups = range(parquet.metadata.num_row_groups) if group is None else [group]
        wanted = list(dict.fromkeys(columns.values()))
        batches = parquet.iter_batches(batch_size=BATCH_ROWS, row_groups=groups, columns=wanted)
        yield from renamed(batches, columns, partitions_of(self.path))

    def _opened(self, file: BinaryIO, columns: dict[str, str], rows: range | None = None) -> pq.ParquetFile:
        return opened(file, self.path, lambda _: list(columns.values()), rows)

    def _footer(self) -> tuple[int, pa.Schema]:
        """Rows and columns."""
        with places.seekable(self.path) as file, sound(self.path):
            parquet = unchecked(file, self.path)
            return parquet.metadata.num_rows, parquet.schema_arrow
