"""Where the records of quoted tables end, and whether quotes stand only where the format has them."""

import csv

import numpy as np
from jaxtyping import Int64

LOOK_AHEAD = 100  # lines that a quoted value may go on over; a quote that is open longer is a stray one
Ends = Int64[np.ndarray, " n"]


def regular(data: bytes, delimiter: str, quote: str) -> bool:
    """Whether every quote begins or ends a value, or is doubled in a quoted one: such data has one reading."""
    bytes_ = np.frombuffer(data, np.uint8)
    if not (delimiter + quote).isascii():
        return False
    places = np.flatnonzero(bytes_ == ord(quote))
    if len(places) % 2:
        return False
    opening, closing = places[0::2], places[1::2]
    edges = np.array([ord(delimiter), ord("\n")], np.uint8)
    before = (opening == 0) | np.isin(bytes_[np.maximum(opening - 1, 0)], edges)
    before[1:] |= opening[1:] == closing[:-1] + 1
    last = len(data) - 1
    next_ = np.minimum(closing + 1, last)
    after = (closing == last) | np.isin(bytes_[next_], edges)
    after |= (bytes_[next_] == ord("\r")) & (bytes_[np.minimum(closing + 2, last)] == ord("\n"))
    after[:-1] |= opening[1:] == closing[:-1] + 1
    return bool(before.all() and after.all())


def quoted_ends(data: bytes, lines: Ends, delimiter: str, quote: str, last: bool) -> Ends:
    """Of the ends of lines those that end a record; `last`: nothing comes after `data`."""
    if not quote.isascii():
        return _one_by_one(data, lines, delimiter, quote, last)
    places = np.flatnonzero(np.frombuffer(data, np.uint8) == ord(quote))
    outside = lines[np.searchsorted(places, lines) % 2 == 0]
    whole = data[: int(outside[-1])] if len(outside) else b""
    left = len(lines) - int(np.searchsorted(lines, len(whole), "right"))
    settled = bool(whole) and left <= LOOK_AHEAD and (not last or len(whole) == len(data))
    if settled and _short(outside, lines) and regular(whole, delimiter, quote):
        return outside
    return _one_by_one(data, lines, delimiter, quote, last)


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


def _short(outside: Ends, lines: Ends) -> bool:
    """Whether no record goes on over more lines than a quoted value may."""
    return not len(outside) or int(np.diff(np.searchsorted(lines, outside), prepend=-1).max()) <= LOOK_AHEAD


def _one_by_one(data: bytes, lines: Ends, delimiter: str, quote: str, last: bool) -> Ends:
    """A line whose quote is open takes the lines after it, up to the one that closes it; else it stands alone."""
    found, at, begin, count = list[int](), 0, 0, len(lines)
    ends, mark = lines.tolist(), quote.encode()
    while at < count:
        step = 1
        if mark in data[begin : ends[at]]:
            size = _size(data, begin, ends[at : at + LOOK_AHEAD], delimiter, quote)
            if size == 0 and not last and at + LOOK_AHEAD > count:
                break  # what closes it may come
            step = max(size, 1)
        found.append(ends[at + step - 1])
        at, begin = at + step, ends[at + step - 1]
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
