"""The values of one column of a table, taken out of its bytes all at once."""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions when it is imported, where pyright does not see them.

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int64

from lightgen.corpora.bits import places_of
from lightgen.corpora.lines import Records
from lightgen.corpora.quotes import NEW, RETURN, Quoted

Places = Int64[np.ndarray, " n"]


class Rows(Records):
    """Records of a table; `odd` ones are to be parsed one by one. `quoted` says where, if there are quotes."""

    def __init__(self, data: bytes, ends: Places, odd: Bool[np.ndarray, " n"], quoted: Quoted | None) -> None:
        super().__init__(data, ends)
        self.odd, self.quoted = odd, quoted

    def chosen(self, kept: Bool[np.ndarray, " n"]) -> "Rows":
        """Some of the ends; what lies between two of them is one record."""
        return self if kept.all() else Rows(self.data, self.ends[kept], self.odd[kept], self.quoted)

    def first(self, count: int) -> "Rows":
        """See `Records.first`."""
        return Rows(self.data, self.ends[:count], self.odd[:count], self.quoted)


def values_of(
    rows: Rows, delimiter: str, quote: str, width: int, column: int
) -> tuple[pa.LargeBinaryArray, Int64[np.ndarray, " n"]]:
    """The values in a column of those records that have `width` values, and how many each of all records has.

    0: it must be parsed by itself.
    """
    signs = np.frombuffer(rows.data, np.uint8)
    begins, stops = _trimmed(rows, signs)
    between = _separators(rows, signs, delimiter)
    firsts, counts = _counted(between, begins, rows.ends, width)
    if rows.odd.any():
        counts[rows.odd] = 0
    fit = counts == width
    if not fit.all():
        begins, stops, firsts = begins[fit], stops[fit], firsts[fit]
    begins = begins if column == 0 else between[firsts + column - 1] + 1
    stops = stops if column == width - 1 else between[firsts + column]
    values = _unquoted(rows, signs, begins, stops, ord(quote)) if rows.quoted else _cut_out(rows.data, begins, stops)
    return values, counts


def _counted(between: Places, begins: Places, ends: Places, width: int) -> tuple[Places, Places]:
    """How many separators stand before each record, and how many values it has."""
    need = width - 1
    if need and len(between) == need * len(ends):
        of_each = between.reshape(-1, need)
        if (of_each[:, 0] >= begins).all() and (of_each[:, -1] < ends).all():
            return np.arange(0, len(between), need), np.full(len(ends), width)
    firsts = np.searchsorted(between, np.append(0, ends))
    return firsts[:-1], np.diff(firsts) + 1


def _separators(rows: Rows, signs: np.ndarray, delimiter: str) -> Places:
    if rows.quoted is not None:
        found = places_of(rows.quoted.separators)
        return found[: np.searchsorted(found, rows.size)]
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
    values, mark = _cut_out(rows.data, begins, stops), bytes([quote])
    assert rows.quoted is not None
    if not rows.quoted.doubled.any():
        return values
    at = places_of(rows.quoted.doubled)
    doubled = np.searchsorted(at, begins) != np.searchsorted(at, stops)
    if not doubled.any():
        return values
    repaired = pc.replace_substring(values.filter(pa.array(doubled)), mark * 2, mark)
    return pc.replace_with_mask(values, pa.array(doubled), repaired)
