"""CSV and TSV: one column of a table.

Where quotes stand only where the format has them, a piece of the file is parsed as a whole; a piece with others is
parsed record by record, and a record whose quotes or fields are wrong is refused alone.
"""

import csv
import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
from pydantic import Field

from lightgen.config import QUIET
from lightgen.corpora.fields import SHOWN, as_bytes, missing_field, same_name
from lightgen.corpora.lines import COMPRESSED, Ends, LineCorpus
from lightgen.corpora.plain_bytes import BLOCK, is_utf8, not_utf8
from lightgen.corpora.quotes import quoted_ends, regular, written_quoted
from lightgen.corpora.ranges import Inventory
from lightgen.corpora.raw import MALFORMED, RAGGED, RawCaptions, binary
from lightgen.errors import InputCorrupt

SEPARATORS = ("\t", ",", ";", "|")
QUOTED = "quoted"
COLUMNS = "columns:"
BLANK = re.compile(r"^(?:\r?\n)+")


class TableCorpus(LineCorpus):
    """One column of a CSV or TSV file. A record with more or fewer fields than the header is refused."""

    REVISION: ClassVar[int] = 2
    ENDINGS: ClassVar[tuple[str, ...]] = tuple(f"{name}{packed}" for name in (".csv", ".tsv") for packed in COMPRESSED)
    kind: Literal["table"] = "table"
    column: str = Field(default="caption", description="that of the captions")
    header: list[str] | None = Field(
        default=None, description="names of the columns, for a file whose first line is data"
    )
    separator: str | None = Field(
        default=None,
        min_length=1,
        max_length=1,
        description="between values, one character; null: a comma where the file is called .csv, else a tab",
    )
    quoting: Literal["auto", "minimal", "none"] = Field(
        default="auto",
        json_schema_extra=QUIET,
        description="`minimal`: quotes around a value hold separators and line ends; `none`: quotes are text; `auto`: "
        "minimal, but with a tab between values only where the first megabyte is written so",
    )
    quote: str = Field(
        default='"', min_length=1, max_length=1, json_schema_extra=QUIET, description="the quote, one character"
    )

    def content(self) -> dict[str, Any]:
        """See `Config.content`: a separator counts, not where it was told from."""
        return super().content() | {"separator": self.delimiter}

    @property
    def delimiter(self) -> str:
        """What stands between values."""
        return self.separator or ("," if ".csv" in Path(self.path.lower()).suffixes else "\t")

    def rehearse(self, folder: Path) -> Self:
        """See `FileCorpus.rehearse`: the small file is not called .csv, so its separator is said."""
        return super().rehearse(folder).model_copy(update={"separator": self.delimiter})

    def write(self, path: Path, captions: Sequence[str | None]) -> None:
        """See `FileCorpus.write`. No value holds a tab or a line break."""
        header = self.header or ["id", self.column]
        place = self._place(header)
        rest = len(header) - place - 1
        rows = [[str(row)] * place + [text or ""] + ["-"] * rest for row, text in enumerate(captions)]
        plain = self.quoting == "none" or (self.quoting == "auto" and self.delimiter == "\t")
        quoting, mark = (csv.QUOTE_NONE, None) if plain else (csv.QUOTE_MINIMAL, self.quote)
        with path.open("w", newline="", encoding=self.encoding) as file:
            writer = csv.writer(file, delimiter=self.delimiter, quoting=quoting, quotechar=mark)
            writer.writerows(rows if self.header else [header, *rows])

    def told(self, head: bytes) -> tuple[str, ...]:
        """See `LineCorpus.told`: whether quotes are around values."""
        quoted = self.quoting == "minimal"
        if self.quoting == "auto":
            quoted = self.delimiter != "\t" or written_quoted(head, self.delimiter, self.quote)
        return (QUOTED,) if quoted else ()

    def begin(self, file: BinaryIO, head: bytes, found: Inventory) -> tuple[Inventory, bytes]:
        """See `LineCorpus.begin`: the header."""
        if self.header is not None:
            return found.model_copy(update={"column": self._place(self.header)}), head
        ends = self.ends(head, len(head) < BLOCK, found.form)
        size = int(ends[0]) if len(ends) else len(head)
        names = self._fields(head[:size], found.form) if head.strip() else []
        if isinstance(names, tuple):
            raise InputCorrupt(f"{self.path}: the header cannot be read: {names[1]}")
        if not is_utf8(head[:size]):
            raise not_utf8(self.path, "its header")
        known = {"start": size, "column": self._place(names), "form": (*found.form, f"{COLUMNS}{len(names)}")}
        return found.model_copy(update=known), head[size:]

    def ends(self, data: bytes, last: bool, form: tuple[str, ...]) -> Ends:
        """See `LineCorpus.ends`. Blank lines belong to the record after them."""
        lines = super().ends(data, last, form)
        if QUOTED in form and self.quote.encode() in data:
            lines = quoted_ends(data, lines, self.delimiter, self.quote, last)
        return lines[_holds_text(data, lines)]

    def captions(self, data: bytes, ends: Ends, first: int, inventory: Inventory) -> RawCaptions:
        """See `LineCorpus.captions`."""
        width, column = self._width(inventory), inventory.column
        rows = first + np.arange(len(ends))
        texts = self._at_once(data, width, column, inventory.form) if len(ends) else None
        if texts is not None and len(texts) == len(ends):
            return self.batch(texts, rows)
        return self._one_by_one(data, ends, rows, (width, column), inventory.form)

    def _width(self, inventory: Inventory) -> int:
        """Names of columns, which each record has as many values as."""
        told = [int(one.removeprefix(COLUMNS)) for one in inventory.form if one.startswith(COLUMNS)]
        return told[0] if told else len(self.header or ())

    def _at_once(self, data: bytes, width: int, column: int, form: tuple[str, ...]) -> pa.LargeBinaryArray | None:
        """The column, where every record has its fields and its quotes; else None."""
        quoted = QUOTED in form and self.quote.encode() in data
        if not (self.delimiter + self.quote).isascii() or (quoted and not regular(data, self.delimiter, self.quote)):
            return None
        if b"\0" in data or (b"\r" in data and b"\r" in data.replace(b"\r\n", b"")):
            return None  # others take them for the end of a text or of a line
        names = [str(number) for number in range(width)]
        try:
            table = pa_csv.read_csv(
                pa.BufferReader(data),
                pa_csv.ReadOptions(use_threads=False, block_size=len(data) + 1, column_names=names),
                pa_csv.ParseOptions(
                    delimiter=self.delimiter, quote_char=self.quote if quoted else False, newlines_in_values=quoted
                ),
                pa_csv.ConvertOptions(
                    check_utf8=False, include_columns=[names[column]], column_types={names[column]: pa.binary()}
                ),
            )
        except pa.ArrowException:
            return None
        return pa.concat_arrays([pa.array([], pa.binary()), *table.column(0).chunks]).cast(pa.large_binary())

    def _one_by_one(
        self, data: bytes, ends: Ends, rows: np.ndarray, place: tuple[int, int], form: tuple[str, ...]
    ) -> RawCaptions:
        width, column = place
        texts, refused = list[bytes | None](), dict[int, tuple[str, str]]()
        for at, (begin, end) in enumerate(itertools.pairwise([0, *ends.tolist()])):
            record = data[begin:end]
            fields = self._fields(record, form)
            if not isinstance(fields, tuple) and len(fields) != width:
                fields = RAGGED, f"{len(fields)} values under {width} names of columns"
            if isinstance(fields, tuple):
                refused[at] = fields
            texts.append(record.strip()[:SHOWN] if isinstance(fields, tuple) else as_bytes(fields[column]))
        return self.batch(binary(texts), rows, refused=refused)

    def _fields(self, record: bytes, form: tuple[str, ...]) -> list[str] | tuple[str, str]:
        """The values of a record, or the reason and the detail why it is none."""
        text = BLANK.sub("", record.decode("utf-8", "surrogateescape"), count=1)
        if QUOTED not in form or self.quote not in text:
            return text.rstrip("\r\n").split(self.delimiter)
        csv.field_size_limit(1 << 30)  # records are bounded, and a long caption is one to refuse
        try:
            lines = [f"{line}\n" for line in text.removesuffix("\n").split("\n")]
            return next(csv.reader(lines, delimiter=self.delimiter, quotechar=self.quote, strict=True), [])
        except csv.Error as error:
            return MALFORMED, f"its quotes are wrong: {error}"

    def _place(self, header: list[str]) -> int:
        name = same_name(header, self.column)
        if name is None:
            raise InputCorrupt(missing_field(self.path, self.column, header, "column") + self._hint(header))
        # Of columns of one name the last counts.
        return len(header) - 1 - header[::-1].index(name)

    def _hint(self, header: list[str]) -> str:
        """What would give the column: another separator, if the first line has it then, else a header."""
        line = self.delimiter.join(header)
        for other in SEPARATORS:
            if self.column in [name.strip("\"'") for name in line.split(other)]:
                return f". Its values seem to have {other!r} between them: set `separator`"
        return ", or `header` where the first line is no header"


def _holds_text(data: bytes, ends: Ends) -> np.ndarray:
    """Which of the records that end there are more than a line end."""
    bytes_, lengths = np.frombuffer(data, np.uint8), np.diff(ends, prepend=0)
    last = bytes_[ends - 1] == ord("\n")
    returned = bytes_[np.maximum(ends - 2, 0)] == ord("\r")
    return ~(last & ((lengths == 1) | (lengths == 2) & returned))
