"""CSV and TSV: one column of a table."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field

from lightgen.corpora.lines import MAX_LINE, LineCorpus, as_text
from lightgen.corpora.raw import RawCaption
from lightgen.errors import InputCorrupt

SEPARATORS = ("\t", ",", ";", "|")


class TableCorpus(LineCorpus):
    """One column of a CSV or TSV file, quoted in CSV and never in TSV. A quoted caption may go on over lines."""

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
        plain = self.delimiter == "\t"
        quoting, mark = (csv.QUOTE_NONE, None) if plain else (csv.QUOTE_MINIMAL, '"')
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, delimiter=self.delimiter, quoting=quoting, quotechar=mark)
            writer.writerows(rows if self.header else [header, *rows])

    def records(self, lines: Iterator[bytes], column: int | None) -> tuple[int, Iterator[list[str]]]:
        """See `LineCorpus.records`. Blank lines are no records."""
        # A megabyte in one field is a caption to refuse, not a file to give up.
        csv.field_size_limit(MAX_LINE)
        quoting = csv.QUOTE_NONE if self.delimiter == "\t" else csv.QUOTE_MINIMAL
        reader = csv.reader(map(as_text, lines), delimiter=self.delimiter, quoting=quoting)
        if column is None:
            header = self.header or next(self._parsed(reader), [])
            column = self._place(header)
        return column, filter(None, self._parsed(reader))

    def caption_of(self, record: list[str], row: int, column: int) -> RawCaption:
        """See `LineCorpus.caption_of`. A record that ends before the column has no text."""
        return self.caption(record[column] if column < len(record) else None, row)

    def _place(self, header: list[str]) -> int:
        if self.column not in header:
            raise InputCorrupt(
                f"{self.path} has no column {self.column!r}; it has {', '.join(header)}: {self._hint(header)}"
            )
        # Of columns of one name the last counts.
        return len(header) - 1 - header[::-1].index(self.column)

    def _hint(self, header: list[str]) -> str:
        """What would give the column: another separator, if the first line has it then, else another name."""
        line = self.delimiter.join(header)
        for other in SEPARATORS:
            if self.column in [name.strip('"') for name in line.split(other)]:
                return f"its values seem to have {other!r} between them: set `separator`"
        return "set `column`, or `header` where the first line is no header"

    def _parsed(self, reader: Any) -> Iterator[list[str]]:
        try:
            yield from reader
        except csv.Error as error:
            raise InputCorrupt(f"{self.path}:{reader.line_num}: {error}. Repair the file") from error
