"""Captions from files, local or on S3: Parquet, JSON lines, CSV/TSV and plain text."""

import codecs
import csv
import io
import json
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from lightgen.config import Member
from lightgen.corpora.first import first_caption
from lightgen.corpora.raw import RawCaption
from lightgen.errors import InputCorrupt
from lightgen.problems import Problem
from lightgen.settings import s3_endpoint

MAX_ROW_GROUPS, MAX_COLUMNS = 10_000, 1_000
MAX_EXPANSION, MAX_UNCOMPRESSED = 64, 4 << 30
MAX_LINE = 16 << 20
MAX_DEPTH, MAX_DIGITS = 64, 4_000
TEXT_TYPES = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
    pa.types.is_binary,
    pa.types.is_large_binary,
)


class _FileCorpus(Member, ABC):
    """What all file corpora share: where the file is, and what to say of its captions."""

    path: str = Field(description="a local path or s3://bucket/key")
    source: str = Field(description="name kept with every caption")
    licence: str = "unknown"
    limit: int | None = Field(default=None, ge=1, description="only the first so many rows")

    @property
    def sources(self) -> set[str]:
        """What its captions may name as their source."""
        return {self.source}

    def problems(self) -> Iterator[Problem]:
        """See `Config.problems`: a file that is not here, a column that it lacks."""
        yield from first_caption(self.read)

    @abstractmethod
    def read(self) -> Iterator[RawCaption]:
        """All captions, in order. Raises InputCorrupt."""

    def open(self) -> BinaryIO:
        """The file's bytes; raises InputCorrupt naming the path."""
        try:
            return _fetched(self.path) if self.path.startswith("s3://") else open(self.path, "rb")
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
            except (pa.ArrowException, OSError) as error:
                raise InputCorrupt(
                    f"{self.path} is not a sound Parquet file: {error}. Fetch or write it again"
                ) from error

    def _rows(self, parquet: pq.ParquetFile) -> Iterator[RawCaption]:
        row = 0
        for batch in parquet.iter_batches(batch_size=4096, columns=[self.column]):
            # As binary: text of a wrong encoding must reach the cleaner, which keeps it with a reason.
            for text in batch.column(0).cast(pa.large_binary()).to_pylist():
                if self._full(row):
                    return
                row += 1
                yield self._caption(text, row)

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
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        if not any(is_text(kind) for is_text in TEXT_TYPES):
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
            yield self._caption(record[self.field], row + 1)


class TableCorpus(_FileCorpus):
    """One column of a CSV or TSV file, quoted in CSV and never in TSV."""

    kind: Literal["table"] = "table"
    column: str = "caption"
    header: list[str] | None = Field(
        default=None, description="names of the columns, for a file whose first line is data"
    )
    separator: str = Field(default="\t", min_length=1, max_length=1)

    def read(self) -> Iterator[RawCaption]:
        """One caption a record."""
        # A megabyte in one field is a caption to refuse, not a file to give up.
        csv.field_size_limit(MAX_LINE)
        quoting = csv.QUOTE_NONE if self.separator == "\t" else csv.QUOTE_MINIMAL
        reader = csv.DictReader(map(_text, _lines(self)), self.header, delimiter=self.separator, quoting=quoting)
        try:
            names = reader.fieldnames or []
            if self.column not in names:
                raise InputCorrupt(
                    f"{self.path} has no column {self.column!r}; it has {', '.join(names)}: set `column`, or "
                    "`header` where the first line is no header"
                )
            for row, record in enumerate(reader):
                if self._full(row):
                    return
                yield self._caption(record[self.column], row + 1)
        except csv.Error as error:
            raise InputCorrupt(f"{self.path}:{reader.line_num}: {error}. Mend the file") from error


class TextCorpus(_FileCorpus):
    """One caption a line."""

    kind: Literal["text"] = "text"

    def read(self) -> Iterator[RawCaption]:
        """Lines, as bytes."""
        for row, line in enumerate(_lines(self)):
            if self._full(row):
                return
            yield self._caption(line.rstrip(b"\r\n"), row + 1)


def _fetched(url: str) -> BinaryIO:
    """An object of S3, whole, in a temporary file: only whole reads are verified by its checksum.

    Raises OSError, also where there are no credentials or no server.
    """
    import s3fs
    from botocore.exceptions import BotoCoreError

    files = s3fs.S3FileSystem(endpoint_url=s3_endpoint(), use_listings_cache=False, skip_instance_cache=True)
    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder) / "corpus"
        try:
            files.get_file(url, str(local))
        except BotoCoreError as error:
            raise OSError(str(error)) from error
        # The open file outlives its name.
        return local.open("rb")


def _lines(corpus: _FileCorpus) -> Iterator[bytes]:
    with corpus.open() as file:
        number = 0
        while line := _readline(file, corpus.path):
            if number == 0:
                line = line.removeprefix(codecs.BOM_UTF8)
            number += 1
            if len(line) > MAX_LINE:
                raise InputCorrupt(f"{corpus.path}:{number} is longer than {MAX_LINE >> 20} MiB; is this a text file?")
            yield line


def _readline(file: BinaryIO, path: str) -> bytes:
    try:
        return file.readline(MAX_LINE + 1)
    except OSError as error:
        raise InputCorrupt(f"cannot read on in {path}: {error}. Check the file and run again") from error


def _text(line: bytes) -> str:
    """Bytes that are not UTF-8 become lone surrogates, and those a reject in the cleaner."""
    return line.decode("utf-8", "surrogateescape")


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
        record = json.loads(_text(line), parse_constant=refuse, parse_int=integer, object_pairs_hook=unique)
    except ValueError as error:
        raise InputCorrupt(f"{where} is not safe JSON: {error}") from None
    if not isinstance(record, dict):
        raise InputCorrupt(f"{where} is {type(record).__name__}, not an object")
    return record


def _depth(line: bytes) -> int:
    """Most brackets open at once, brackets inside strings counted too: an upper bound."""
    brackets = line.count(b"[") + line.count(b"{")
    if brackets <= MAX_DEPTH:
        return brackets
    depth = deepest = 0
    for byte in line:
        depth += (byte in b"[{") - (byte in b"]}")
        deepest = max(deepest, depth)
    return deepest
