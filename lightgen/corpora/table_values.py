"""The values of one column of a table, taken out of its bytes all at once."""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions when it is imported, where pyright does not see them.

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int64

from lightgen.corpora.lines import Records
from lightgen.corpora.quotes import NEW, RETURN, Marks, Quoted

Places = Int64[np.ndarray, " n"]


@dataclass(frozen=True)
class Rows(Records):
    """Records of a table; `odd` ones are to be parsed one by one. Without quotes among them there are no `marks`."""

    odd: Bool[np.ndarray, " n"]
    marks: Marks | None

    @classmethod
    def of(cls, data: bytes, found: Quoted) -> Self:
        """Records with quotes in them."""
        return cls(data, found.ends, found.odd, found.marks)

    def chosen(self, kept: Bool[np.ndarray, " n"]) -> Self:
        """Some of the ends; what lies between two of them is one record."""
        return self if kept.all() else replace(self, ends=self.ends[kept], odd=self.odd[kept])

    def first(self, count: int) -> Self:
        """See `Records.first`."""
        return replace(self, ends=self.ends[:count], odd=self.odd[:count])


def values_of(
    rows: Rows, delimiter: str, quote: str, width: int, column: int
) -> tuple[pa.LargeBinaryArray, Bool[np.ndarray, " n"]]:
    """The values in a column of `width`, and which records must be parsed one by one, their values here being none."""
    signs = np.frombuffer(rows.data, np.uint8)
    begins, stops = _trimmed(rows, signs)
    between = _separators(rows, signs, delimiter)
    firsts = np.searchsorted(between, np.append(0, rows.ends))
    fit = (np.diff(firsts) == width - 1) & ~rows.odd
    every = fit.all()
    if not every:
        begins, stops, firsts = begins[fit], stops[fit], firsts[:-1][fit]
    firsts = firsts[: len(begins)]
    begins = begins if column == 0 else between[firsts + column - 1] + 1
    stops = stops if column == width - 1 else between[firsts + column]
    values = _unquoted(rows, signs, begins, stops, ord(quote)) if rows.marks else _cut_out(rows.data, begins, stops)
    if every:
        return values, ~fit
    return pc.replace_with_mask(pa.nulls(len(fit), pa.large_binary()), pa.array(fit), values), ~fit


def _separators(rows: Rows, signs: np.ndarray, delimiter: str) -> Places:
    if rows.marks is not None:
        return rows.marks.of(ord(delimiter))
    return np.flatnonzero(signs[: rows.size] == ord(delimiter))


def _trimmed(rows: Rows, signs: np.ndarray) -> tuple[Places, Places]:
    """Where the first values begin, after blank lines, and where the last ones end, before the end of the line."""
    begins, stops = np.append(0, rows.ends[:-1]), rows.ends - (signs[rows.ends - 1] == NEW)
    while True:
        blank = signs[begins] == NEW
        returned = (signs[begins] == RETURN) & (signs[np.minimum(begins + 1, len(signs) - 1)] == NEW)
        if not (blank | returned).any():
            break
        begins = begins + blank + 2 * returned
    while b"\r" in rows.data and (more := (stops > begins) & np.isin(signs[stops - 1], (NEW, RETURN))).any():
        stops = stops - more
    return begins, stops


def _cut_out(data: bytes, begins: Places, stops: Places) -> pa.LargeBinaryArray:
    """The parts of `data`, which lie one after the other: every second one of what the bounds of all cut it into."""
    if not len(begins):
        return pa.array([], pa.large_binary())
    bounds = np.stack([begins, stops], 1).reshape(-1)
    parts = pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), len(bounds) - 1, [None, pa.py_buffer(bounds), pa.py_buffer(data)]
    )
    return parts.take(pa.array(np.arange(0, len(parts), 2)))


def _unquoted(rows: Rows, signs: np.ndarray, begins: Places, stops: Places, quote: int) -> pa.LargeBinaryArray:
    """The same without the quotes around values; quotes within are doubled."""
    if not len(begins):
        return pa.array([], pa.large_binary())
    quoted = (stops > begins) & (signs[np.minimum(begins, len(signs) - 1)] == quote)
    begins, stops = begins + quoted, stops - quoted
    values = _cut_out(rows.data, begins, stops)
    assert rows.marks is not None
    quotes = rows.marks.places[rows.marks.signs == quote]
    doubled = np.searchsorted(quotes, begins) != np.searchsorted(quotes, stops)
    if not doubled.any():
        return values
    mark = bytes([quote])
    mended = pc.replace_substring(values.filter(pa.array(doubled)), mark * 2, mark)
    return pc.replace_with_mask(values, pa.array(doubled), mended)
