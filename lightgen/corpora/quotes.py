"""Where the records of quoted tables end, and whether quotes stand only where the format has them.

Separators, line ends and quotes are looked at, all of a piece at once. Lines with quotes elsewhere are given to the csv
module, one by one.
"""

import csv
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Int64, UInt8

LOOK_AHEAD = 100  # lines that a quoted value may go on over; a quote that is open longer is a stray one
NEW, RETURN = ord("\n"), ord("\r")
Ends = Int64[np.ndarray, " n"]


@dataclass(frozen=True)
class Marks:
    """Where separators, quotes and line ends stand, what they are, and which stand within quotes or begin such."""

    places: Int64[np.ndarray, " m"]
    signs: UInt8[np.ndarray, " m"]
    inside: Bool[np.ndarray, " m"]

    def of(self, sign: int) -> Ends:
        """Places of a sign outside of quotes."""
        return self.places[(self.signs == sign) & ~self.inside]


@dataclass(frozen=True)
class Quoted:
    """Where records end, which of them are to be parsed one by one, and the marks in the others."""

    ends: Ends
    odd: Bool[np.ndarray, " n"]
    marks: Marks


def marks_in(data: bytes, delimiter: str, quote: str) -> Marks:
    """The marks, quotes being paired from the first byte on."""
    signs = np.frombuffer(data, np.uint8)
    wanted = (signs == ord(delimiter)) | (signs == ord(quote)) | (signs == NEW)
    if b"\r" in data:
        wanted |= signs == RETURN
    places = np.flatnonzero(wanted)
    found = signs[places]
    return Marks(places, found, _open(found == ord(quote)))


def regular(data: bytes, delimiter: str, quote: str) -> bool:
    """Whether every quote begins or ends a value, or is doubled in a quoted one: such data has one reading."""
    if not (delimiter + quote).isascii():
        return False
    marks = marks_in(data, delimiter, quote)
    even = not len(marks.inside) or not marks.inside[-1]
    return even and not _astray(marks, ord(quote), len(data)).any()


def quoted_records(data: bytes, delimiter: str, quote: str, last: bool) -> Quoted:
    """The records in `data`, which begins with one; `last`: nothing comes after it. Separator and quote are ASCII."""
    marks = marks_in(data, delimiter, quote)
    lines, outside = marks.places[marks.signs == NEW] + 1, marks.of(NEW) + 1
    if last and data and not data.endswith(b"\n"):
        closed = not len(marks.inside) or not marks.inside[-1]
        lines, outside = np.append(lines, len(data)), np.append(outside, len(data)) if closed else outside
    whole = int(outside[-1]) if len(outside) else 0
    left = len(lines) - int(np.searchsorted(lines, whole, "right"))
    settled = whole > 0 and left <= LOOK_AHEAD and (not last or whole == len(data))
    if settled and _short(outside, lines) and not _astray(marks, ord(quote), whole).any():
        return Quoted(outside, _with_returns(marks, outside, len(outside)), marks)
    return _line_by_line(data, lines, marks, (delimiter, quote), last)


def written_quoted(head: bytes, delimiter: str, quote: str) -> bool:
    """Whether the first bytes of a table are those of a writer that quotes: some value must have needed it.

    Text that merely begins and ends with quotes, as a title may, needs none.
    """
    cut = head.rfind(b"\n") + 1 or len(head)
    text, mark, edge = head[:cut], quote.encode(), delimiter.encode()
    if mark not in text or not regular(text, delimiter, quote):
        return False
    inside = text.split(mark)[1::2]
    return mark * 2 in text.replace(edge + mark * 2 + edge, b"") or any(edge in one or b"\n" in one for one in inside)


def _open(quotes: Bool[np.ndarray, " m"]) -> Bool[np.ndarray, " m"]:
    """Whether a quote is open at each mark, one that opens there among them."""
    return np.bitwise_xor.accumulate(quotes.view(np.uint8)).view(np.bool_)


def _astray(marks: Marks, quote: int, size: int) -> Bool[np.ndarray, " m"]:
    """Which of the quotes neither begins nor ends a value, nor is doubled in one; of the first `size` bytes."""
    if not len(marks.places):
        return np.zeros(0, np.bool_)
    beside = np.diff(marks.places) == 1
    after_mark = np.concatenate([[marks.places[0] == 0], beside & (marks.signs[:-1] != RETURN)])
    before_end = np.append(beside, False)
    before_end |= marks.places == size - 1
    if RETURN in marks.signs:
        lines = np.append(beside & (marks.signs[1:] == NEW), False)
        before_end[:-1] &= (marks.signs[1:] != RETURN) | lines[1:]
    fine = np.where(marks.inside, after_mark, before_end)
    return (marks.signs == quote) & (marks.places < size) & ~fine


def _with_returns(marks: Marks, ends: Ends, count: int) -> Bool[np.ndarray, " n"]:
    """Which of the records that end there hold a carriage return outside of quotes, but for one at their end."""
    odd = np.zeros(count, np.bool_)
    returns = marks.of(RETURN)
    if len(returns):
        stray = returns[~np.isin(returns + 2, ends, assume_unique=True)]
        at = np.searchsorted(ends, stray, "right")
        odd[at[at < count]] = True
    return odd


def _short(outside: Ends, lines: Ends) -> bool:
    """Whether no record goes on over more lines than a quoted value may."""
    if len(outside) == len(lines):
        return True
    return not len(outside) or int(np.diff(np.searchsorted(lines, outside), prepend=-1).max()) <= LOOK_AHEAD


def _line_by_line(data: bytes, lines: Ends, marks: Marks, signs: tuple[str, str], last: bool) -> Quoted:
    """A line whose quote is open takes the lines after it, up to the one that closes it; else it stands alone.

    Lines whose own quotes stand as they should are records, unless a line before takes them.
    """
    counted = np.append(0, np.cumsum(marks.signs == ord(signs[1])))  # quotes before each mark
    firsts = np.searchsorted(marks.places, np.append(0, lines))  # marks before each line, and after the last
    before = np.repeat(counted[firsts], np.diff(np.append(firsts, len(marks.places))))
    paired = replace(marks, inside=((counted[1:] - before) & 1).astype(np.bool_))
    wrong = np.diff(counted[firsts]) % 2 == 1
    astray = np.searchsorted(lines, paired.places[_astray(paired, ord(signs[1]), len(data))], "right")
    wrong[astray[astray < len(lines)]] = True
    ends, taken, read = lines.tolist(), np.zeros(len(lines), np.bool_), 0
    for at in np.flatnonzero(wrong).tolist():
        if at < read:
            continue
        size = _size(data, ends[at - 1] if at else 0, ends[at : at + LOOK_AHEAD], *signs)
        if size == 0 and not last and at + LOOK_AHEAD > len(lines):
            lines = lines[:at]  # what closes it may come
            break
        read = at + max(size, 1)
        taken[at : read - 1], wrong[read - 1] = True, True
    whole = ~taken[: len(lines)]
    odd = wrong[: len(lines)] | _with_returns(paired, lines, len(lines))
    return Quoted(lines[whole], odd[whole], paired)


def one_by_one(data: bytes, lines: Ends, delimiter: str, quote: str, last: bool) -> Ends:
    """Of the ends of lines those that end a record, for signs that are not ASCII: see `quoted_records`."""
    found, at, count, mark = list[int](), 0, len(lines), quote.encode()
    ends = lines.tolist()
    while at < count:
        begin, size = ends[at - 1] if at else 0, 1
        if mark in data[begin : ends[at]]:
            size = _size(data, begin, ends[at : at + LOOK_AHEAD], delimiter, quote)
            if size == 0 and not last and at + LOOK_AHEAD > count:
                break  # what closes it may come
        at += max(size, 1)
        found.append(ends[at - 1])
    return np.asarray(found, np.int64)


def _size(data: bytes, begin: int, ends: list[int], delimiter: str, quote: str) -> int:
    """Lines of the record that begins there; 0 where its quote stays open."""
    bounds = zip([begin, *ends], ends, strict=False)
    text = (data[start:end].decode("utf-8", "surrogateescape") for start, end in bounds)
    csv.field_size_limit(1 << 30)
    reader = csv.reader(text, delimiter=delimiter, quotechar=quote, strict=True)
    try:
        while not next(reader, ["end"]):
            pass  # blank lines before it
    except csv.Error as error:
        return 0 if "unexpected end" in str(error) else 1
    return reader.line_num
