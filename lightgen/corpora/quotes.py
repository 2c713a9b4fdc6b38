"""Where the records of quoted tables end, and whether quotes stand only where the format has them.

Separators, line ends and quotes are looked at, all of a piece at once, as bits. Lines with quotes elsewhere are given
to the csv module, one by one.
"""

import csv
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Int64

from lightgen.corpora.bits import Bits, bits_of, is_set, odd_so_far, one_back, one_on, places_of, set_at

LOOK_AHEAD = 100  # lines that a quoted value may go on over; a quote that is open longer is a stray one
NEW, RETURN = ord("\n"), ord("\r")
Ends = Int64[np.ndarray, " n"]


@dataclass(frozen=True)
class Marks:
    """Where separators, quotes and line ends stand in `size` bytes, and what lies within quotes or begins such.

    Quotes are paired from the first byte on. Without carriage returns `returns` is None.
    """

    size: int
    separators: Bits
    quotes: Bits
    lines: Bits
    returns: Bits | None
    inside: Bits

    @property
    def closed(self) -> bool:
        """Whether no quote is open at the end."""
        return not self.size or not is_set(self.inside, np.asarray([self.size - 1]))[0]


@dataclass(frozen=True)
class Quoted:
    """Where records end, which of them are to be parsed one by one, and of the others the separators between values.

    `doubled`: quotes that another follows
    """

    ends: Ends
    odd: Bool[np.ndarray, " n"]
    separators: Bits
    doubled: Bits


def marks_in(data: bytes, delimiter: str, quote: str) -> Marks:
    """The marks, of a separator and a quote that are ASCII."""
    signs = np.frombuffer(data, np.uint8)
    separators, quotes, lines = (bits_of(signs == sign) for sign in (ord(delimiter), ord(quote), NEW))
    returns = bits_of(signs == RETURN) if b"\r" in data else None
    return Marks(len(data), separators, quotes, lines, returns, odd_so_far(quotes))


def regular(data: bytes, delimiter: str, quote: str) -> bool:
    """Whether every quote begins or ends a value, or is doubled in a quoted one: such data has one reading."""
    if not (delimiter + quote).isascii():
        return False
    marks = marks_in(data, delimiter, quote)
    return marks.closed and not len(_astray(marks, marks.inside))


def quoted_records(data: bytes, delimiter: str, quote: str, last: bool) -> Quoted:
    """The records in `data`, which begins with one; `last`: nothing comes after it. Separator and quote are ASCII."""
    marks = marks_in(data, delimiter, quote)
    lines = outside = places_of(marks.lines) + 1
    if (marks.lines & marks.inside).any():
        outside = places_of(marks.lines & ~marks.inside) + 1
    if last and data and not data.endswith(b"\n"):
        lines, outside = np.append(lines, len(data)), np.append(outside, len(data)) if marks.closed else outside
    whole = int(outside[-1]) if len(outside) else 0
    left = len(lines) - int(np.searchsorted(lines, whole, "right"))
    settled = whole > 0 and left <= LOOK_AHEAD and (not last or whole == len(data))
    if settled and _short(outside, lines) and not (_astray(marks, marks.inside) < whole).any():
        return _quoted(marks, marks.inside, outside, np.zeros(len(outside), np.bool_))
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


def quoted_header(head: bytes, delimiter: str, quote: str) -> bool:
    """Whether quotes are around all values of the first line, as around no names that anybody gives."""
    line, mark = head.lstrip(b"\r\n").split(b"\n", 1)[0].rstrip(b"\r"), quote.encode()
    names = line.split(delimiter.encode())
    return all(len(name) > 2 and name.startswith(mark) and name.endswith(mark) for name in names)


def _quoted(marks: Marks, inside: Bits, ends: Ends, odd: Bool[np.ndarray, " n"]) -> Quoted:
    """Records that end there, some of them `odd`; so are those with a carriage return that is in no line end."""
    if marks.returns is not None:
        stray = places_of(marks.returns & ~inside & ~one_back(marks.lines))
        at = np.searchsorted(ends, stray[stray + 2 != marks.size], "right")  # the last byte ends a line too
        odd[at[at < len(ends)]] = True
    return Quoted(ends, odd, marks.separators & ~inside, marks.quotes & one_back(marks.quotes))


def _astray(marks: Marks, inside: Bits) -> Ends:
    """Where quotes neither begin nor end a value, nor are doubled in one."""
    before = marks.separators | marks.quotes | marks.lines
    after = before if marks.returns is None else before | (marks.returns & one_back(marks.lines))
    begins, ends = one_on(before), one_back(after)
    if marks.size:
        set_at(begins, 0)
        set_at(ends, marks.size - 1)
    stray = marks.quotes & ~((inside & begins) | (~inside & ends))
    return places_of(stray) if stray.any() else np.zeros(0, np.int64)


def _short(outside: Ends, lines: Ends) -> bool:
    """Whether no record goes on over more lines than a quoted value may."""
    if len(outside) == len(lines):
        return True
    return not len(outside) or int(np.diff(np.searchsorted(lines, outside), prepend=-1).max()) <= LOOK_AHEAD


def _line_by_line(data: bytes, lines: Ends, marks: Marks, signs: tuple[str, str], last: bool) -> Quoted:
    """A line whose quote is open takes the lines after it, up to the one that closes it; else it stands alone.

    Lines whose own quotes stand as they should are records, unless a line before takes them.
    """
    wrong = np.diff(is_set(marks.inside, lines - 1), prepend=False)  # an odd number of quotes
    inside = _line_wise(marks, lines[wrong])
    astray = np.searchsorted(lines, _astray(marks, inside), "right")
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
    found, whole = _quoted(marks, inside, lines, wrong[: len(lines)]), ~taken[: len(lines)]
    return replace(found, ends=lines[whole], odd=found.odd[whole])


def _line_wise(marks: Marks, turns: Ends) -> Bits:
    """What lies within quotes, where each line begins outside of them: `turns` is where lines end that stay open."""
    turned = np.zeros(marks.size + 1, np.bool_)
    turned[turns] = True
    return marks.inside ^ odd_so_far(bits_of(turned[:-1]))


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
