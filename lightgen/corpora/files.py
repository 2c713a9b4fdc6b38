"""Captions from files, local or on S3: Parquet, JSON lines, CSV/TSV and plain text."""

import csv
import io
import json
from collections.abc import Iterator
from typing import Any, BinaryIO, Literal, cast

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.core import OpenFile
from pydantic import BaseModel, ConfigDict, Field

from lightgen.corpora.raw import RawCaption
from lightgen.errors import InputCorrupt
from lightgen.settings import s3_endpoint

MAX_ROW_GROUPS, MAX_COLUMNS = 10_000, 1_000
MAX_EXPANSION, MAX_UNCOMPRESSED = 64, 4 << 30
MAX_LINE = 16 << 20
MAX_DEPTH, MAX_DIGITS = 64, 4_000


class _FileCorpus(BaseModel):
    """What all file corpora share: where the file is, and what to say of its captions."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str = Field(description="a local path or s3://bucket/key")
    source: str = Field(description="name kept with every caption")
    licence: str = "unknown"
    limit: int | None = Field(default=None, ge=1, description="only the first so many rows")

    def open(self) -> BinaryIO:
        """The file's bytes; raises InputCorrupt naming the path."""
        options: dict[str, Any] = {}
        if self.path.startswith("s3://") and s3_endpoint():
            options["endpoint_url"] = s3_endpoint()
        try:
            return cast(BinaryIO, cast(OpenFile, fsspec.open(self.path, "rb", **options)).open())
        except OSError as error:
            raise InputCorrupt(f"cannot open {self.path}: {error}. Check the path and your access to it") from error

    def _caption(self, text: object, row: int) -> RawCaption:
        known = text if text is None or isinstance(text, str | bytes) else str(text)
        return RawCaption(known, self.source, self.licence, f"{self.path}:{row}")

    def _full(self, row: int) -> bool:
        return self.limit is not None and row >= self.limit


class ParquetCorpus(_FileCorpus):
    """One column of a Parquet file."""

    kind: Literal["parquet"] = "parquet"
    column: str = "caption"

    def read(self) -> Iterator[RawCaption]:
        """Captions row group by row group; a file that would unpack to far more than it is, is refused."""
        with self.open() as file:
            try:
                parquet = pq.ParquetFile(file, page_checksum_verification=True)
                self._check(parquet, file)
                yield from self._rows(parquet)
            except (pa.ArrowInvalid, OSError) as error:
                raise InputCorrupt(
                    f"{self.path} is not a sound Parquet file: {error}. Fetch or write it again"
                ) from error

    def _rows(self, parquet: pq.ParquetFile) -> Iterator[RawCaption]:
        row = 0
        for batch in parquet.iter_batches(batch_size=4096, columns=[self.column]):
            # As binary: text of a wrong encoding must reach the cleaner, which keeps it with a reason.
            for text in batch.column(0).cast(pa.binary()).to_pylist():
                if self._full(row):
                    return
                yield self._caption(text, row)
                row += 1

    def _check(self, parquet: pq.ParquetFile, file: BinaryIO) -> None:
        meta = parquet.metadata
        file.seek(0, io.SEEK_END)
        size = file.tell()
        unpacked = sum(meta.row_group(i).total_byte_size for i in range(min(meta.num_row_groups, MAX_ROW_GROUPS)))
        if meta.num_row_groups > MAX_ROW_GROUPS or meta.num_columns > MAX_COLUMNS:
            raise InputCorrupt(
                f"{self.path} has {meta.num_row_groups} row groups and {meta.num_columns} columns: too many"
            )
        if unpacked > MAX_UNCOMPRESSED or unpacked > MAX_EXPANSION * max(size, 1 << 16):
            raise InputCorrupt(
                f"{self.path}: {size} bytes unpack to {unpacked}; more than {MAX_EXPANSION} times is refused"
            )
        schema = parquet.schema_arrow
        if self.column not in schema.names:
            raise InputCorrupt(
                f"{self.path} has no column {self.column!r}; it has {', '.join(schema.names)}: set `column`"
            )
        kind = schema.field(self.column).type
        if not any(is_text(kind) for is_text in (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary)):
            raise InputCorrupt(f"{self.path}: column {self.column!r} is {kind}, not text")


class JsonlCorpus(_FileCorpus):
    """One field of a JSON lines file."""

    kind: Literal["jsonl"] = "jsonl"
    field: str = "caption"

    def read(self) -> Iterator[RawCaption]:
        """One caption a line; a line that is not a safe JSON object stops the reading with its number."""
        for row, line in enumerate(_lines(self)):
            if self._full(row):
                return
            if not line.strip():
                continue
            record = _safe_object(line, f"{self.path}:{row + 1}")
            if self.field not in record:
                names = ", ".join(sorted(record))
                raise InputCorrupt(f"{self.path}:{row + 1} has no field {self.field!r}; it has {names}: set `field`")
            yield self._caption(record[self.field], row)


class TableCorpus(_FileCorpus):
    """One column of a CSV or TSV file with a header."""

    kind: Literal["table"] = "table"
    column: str = "caption"
    separator: str = Field(default="\t", min_length=1, max_length=1)

    def read(self) -> Iterator[RawCaption]:
        """One caption a record."""
        with self.open() as file:
            # Bytes that are not UTF-8 become lone surrogates here and a reject in the cleaner.
            text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
            quoting = csv.QUOTE_NONE if self.separator == "\t" else csv.QUOTE_MINIMAL
            reader = csv.DictReader(text, delimiter=self.separator, quoting=quoting)
            names = reader.fieldnames or []
            if self.column not in names:
                raise InputCorrupt(
                    f"{self.path} has no column {self.column!r}; it has {', '.join(names)}: set `column`"
                )
            try:
                for row, record in enumerate(reader):
                    if self._full(row):
                        return
                    yield self._caption(record[self.column], row)
            except csv.Error as error:
                raise InputCorrupt(f"{self.path}:{reader.line_num}: {error}") from error


class TextCorpus(_FileCorpus):
    """One caption a line."""

    kind: Literal["text"] = "text"

    def read(self) -> Iterator[RawCaption]:
        """Lines, as bytes."""
        for row, line in enumerate(_lines(self)):
            if self._full(row):
                return
            yield self._caption(line.rstrip(b"\r\n"), row)


def _lines(corpus: _FileCorpus) -> Iterator[bytes]:
    with corpus.open() as file:
        number = 0
        while line := file.readline(MAX_LINE + 1):
            number += 1
            if len(line) > MAX_LINE:
                raise InputCorrupt(f"{corpus.path}:{number} is longer than {MAX_LINE >> 20} MiB; is this a text file?")
            yield line


def _safe_object(line: bytes, where: str) -> dict[str, Any]:
    """A JSON object without duplicate keys, NaN, huge numbers or deep nesting; raises InputCorrupt."""

    def refuse(constant: str) -> object:
        raise ValueError(f"the constant {constant} is not JSON")

    def integer(digits: str) -> int:
        if len(digits) > MAX_DIGITS:
            raise ValueError(f"a number of {len(digits)} digits")
        return int(digits)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        record = dict(pairs)
        if len(record) != len(pairs):
            raise ValueError("a key stands twice")
        return record

    try:
        if _depth(line) > MAX_DEPTH:
            raise ValueError(f"nested deeper than {MAX_DEPTH}")
        record = json.loads(line, parse_constant=refuse, parse_int=integer, object_pairs_hook=unique)
    except ValueError as error:
        raise InputCorrupt(f"{where} is not safe JSON: {error}") from None
    if not isinstance(record, dict):
        raise InputCorrupt(f"{where} is {type(record).__name__}, not an object")
    return record


def _depth(line: bytes) -> int:
    """Most brackets open at once, brackets inside strings counted too: an upper bound."""
    depth = deepest = 0
    for byte in line:
        depth += (byte in b"[{") - (byte in b"]}")
        deepest = max(deepest, depth)
    return deepest
