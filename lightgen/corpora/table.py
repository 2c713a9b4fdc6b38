"""CSV and TSV: one column of a table.

Records whose quotes stand only where the format has them are cut into values all at once; others are parsed one by one,
and a record whose quotes or fields are wrong is refused alone.
"""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions when it is imported, where pyright does not see them.

import csv
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
from pydantic import Field

from lightgen.config import QUIET
from lightgen.corpora.fields import SHOWN, as_bytes, missing_field, same_name
from lightgen.corpora.lines import COMPRESSED, Ends, LineCorpus, Records
from lightgen.corpora.plain_bytes import BLOCK, is_utf8, not_utf8
from lightgen.corpora.quotes import one_by_one, quoted_header, quoted_records, written_quoted
from lightgen.corpora.ranges import Inventory
from lightgen.corpora.raw import MALFORMED, RAGGED, RawCaptions, binary
from lightgen.corpora.table_values import Rows, values_of
from lightgen.errors import InputCorrupt

SEPARATORS = ("\t", ",", ";", "|")
QUOTED = "quoted"
COLUMNS = "columns:"
LOOKED_AT = 1 << 10  # bytes
Value = tuple[bytes, tuple[str, str] | None]
"""The caption of a record; or what is shown of it, and the reason and the detail why it has none."""
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
        "minimal, but with a tab between values only where the first megabyte or the header is written so",
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
        return self.separator or _separator_of(self.path)

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
        super().told(head)
        quoted = self.quoting == "minimal"
        if self.quoting == "auto":
            signs = self.delimiter, self.quote
            quoted = self.delimiter != "\t" or written_quoted(head, *signs)
            quoted = quoted or (self.header is None and quoted_header(head, *signs))
        return (QUOTED,) if quoted else ()

    def begin(self, file: BinaryIO, head: bytes, found: Inventory) -> tuple[Inventory, bytes]:
        """See `LineCorpus.begin`: the header."""
        if self.header is not None:
            return found.model_copy(update={"column": self._place(self.header)}), head
        if not head.strip():
            if len(head) < BLOCK:
                return found, b""  # as Spark writes a part without rows
            raise InputCorrupt(f"{self.path} begins with {len(head):,} bytes of nothing. Fetch or write it again")
        size = self._first_size(head, found.form)
        names = self._fields(head[:size], found.form)
        if isinstance(names, tuple):
            raise InputCorrupt(f"{self.path}: the header cannot be read: {names[1]}")
        if not is_utf8(head[:size]):
            raise not_utf8(self.path, "its header")
        known = {"start": size, "column": self._place(names), "form": (*found.form, f"{COLUMNS}{len(names)}")}
        return found.model_copy(update=known), head[size:]

    def _first_size(self, head: bytes, form: tuple[str, ...]) -> int:
        """Bytes of the first record, which hardly ever is longer than the little that is looked at first."""
        for part, last in ((head[:LOOKED_AT], False), (head, len(head) < BLOCK)):
            if len(ends := self.records(part, last, form).ends):
                return int(ends[0])
        return len(head)

    def ends(self, data: bytes, last: bool, form: tuple[str, ...]) -> Ends:
        """See `LineCorpus.ends`."""
        return self.records(data, last, form).ends

    def records(self, data: bytes, last: bool, form: tuple[str, ...]) -> Rows:
        """See `LineCorpus.records`. Blank lines belong to the record after them."""
        if QUOTED not in form or self.quote.encode() not in data:
            ends = super().ends(data, last, form)
            rows = Rows(data, ends, np.zeros(len(ends), np.bool_), None)
        elif self._is_simple():
            found = quoted_records(data, self.delimiter, self.quote, last)
            rows = Rows(data, found.ends, found.odd, found)
        else:
            ends = one_by_one(data, super().ends(data, last, form), self.delimiter, self.quote, last)
            rows = Rows(data, ends, np.ones(len(ends), np.bool_), None)
        return rows.chosen(_holds_text(data, rows.ends))

    def captions(self, records: Records, first: int, inventory: Inventory) -> RawCaptions:
        """See `LineCorpus.captions`."""
        assert isinstance(records, Rows)
        width, column = self._width(inventory), inventory.column
        rows = first + np.arange(len(records.ends))
        if self._is_simple() and len(rows):
            texts, counts = values_of(records, self.delimiter, self.quote, width, column)
        else:
            texts, counts = binary([]), np.zeros(len(rows), np.int64)
        unfit = counts != width
        if not unfit.any():
            return self.batch(texts, rows)
        places = np.flatnonzero(unfit).tolist()
        found = [
            _ragged(record, count, width)
            if count and b"\r" not in record.strip()
            else self._value(record, width, column, inventory.form)
            for record, count in zip(map(records.at, places), counts[unfit].tolist(), strict=True)
        ]
        texts = pa.concat_arrays([texts, binary([text for text, _ in found])])
        texts = texts.take(pa.array(np.argsort(np.argsort(unfit, kind="stable"))))
        return self.batch(texts, rows, refused={at: why for at, (_, why) in zip(places, found, strict=True) if why})

    def _is_simple(self) -> bool:
        """Whether separator and quote are signs that bytes can be looked through for."""
        return (self.delimiter + self.quote).isascii() and not {self.delimiter, self.quote} & {"\n", "\r"}

    def _width(self, inventory: Inventory) -> int:
        """Names of columns, which each record has as many values as."""
        told = [int(one.removeprefix(COLUMNS)) for one in inventory.form if one.startswith(COLUMNS)]
        return told[0] if told else len(self.header or ())

    def _value(self, record: bytes, width: int, column: int, form: tuple[str, ...]) -> Value:
        """The caption of a record that is parsed by itself."""
        fields = self._fields(record, form)
        if isinstance(fields, tuple):
            return record.strip()[:SHOWN], fields
        return (as_bytes(fields[column]), None) if len(fields) == width else _ragged(record, len(fields), width)

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
        if header.count(name) > 1:
            raise InputCorrupt(f"{self.path} has {header.count(name)} columns {name!r}. Rename all but one of them")
        return header.index(name)

    def _hint(self, header: list[str]) -> str:
        """What would give the column: another separator, if the first line has it then, else a header."""
        line = self.delimiter.join(header)
        for other in (self.delimiter, *SEPARATORS):
            if self.column in [name.strip("\"'") for name in line.split(other)]:
                if other == self.delimiter:
                    return ". Quotes seem to stand around its values: set `quote`, or `quoting: minimal`"
                return f". Its values seem to have {other!r} between them: set `separator`"
        return ", or `header` where the first line is no header"


def _ragged(record: bytes, count: int, width: int) -> Value:
    return record.strip()[:SHOWN], (RAGGED, f"{count} values under {width} names of columns")


@lru_cache
def _separator_of(path: str) -> str:
    return "," if ".csv" in Path(path.lower()).suffixes else "\t"


def _holds_text(data: bytes, ends: Ends) -> np.ndarray:
    """Which of the records that end there are more than a line end."""
    lengths = ends.copy()
    lengths[1:] -= ends[:-1]
    if lengths.min(initial=3) > 2:
        return np.ones(len(ends), np.bool_)
    signs = np.frombuffer(data, np.uint8)
    last = signs[ends - 1] == ord("\n")
    returned = signs[np.maximum(ends - 2, 0)] == ord("\r")
    return ~(last & ((lengths == 1) | (lengths == 2) & returned))
