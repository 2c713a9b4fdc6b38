"""Finds the records of an array in a JSON document without parsing it: brackets, commas and quotes are enough."""

import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Int64

from lightgen.corpora.plain_bytes import BLOCK
from lightgen.corpora.raw import MALFORMED
from lightgen.errors import InputCorrupt

MAX_HEAD = 64 << 20  # bytes of a value, other than an array of records, that is passed over
KINDS = bytes.maketrans(b'[{]},"', bytes([1, 1, 255, 255, 2, 3]))
OTHERS = bytes(sign for sign in range(256) if sign not in b'[{]},"')
MARKS = bytes(KINDS[sign] if sign not in OTHERS else 0 for sign in range(256))  # -1 is 255
WHITE, BLANKS = b" \t\r\n", " \t\r\n"
FOLLOWS = re.compile(r"[ \t\r\n]*(?:(,)[ \t\r\n]*|(?=\]))")  # an item of an array
Ends = Int64[np.ndarray, " n"]


def item_ends(data: bytes, last: bool) -> Ends:
    """Where in `data`, which begins with an item of an array, whole items end: after their comma, or before the `]`.

    After the end of the array nothing is looked at. An item at the end of `data` is not whole until a comma or `]`
    follows it, or `last` says that nothing does.
    """
    plain = data.replace(b"\\\\", b"__") if b"\\\\" in data else data
    plain = plain.replace(b'\\"', b"__") if b'\\"' in plain else plain
    marks = plain.translate(MARKS)
    places = np.flatnonzero(np.frombuffer(marks, np.bool_))
    kinds = np.frombuffer(marks, np.int8)[places]
    outside = np.cumsum(kinds == 3) % 2 == 0
    places, kinds = places[outside & (kinds != 3)], kinds[outside & (kinds != 3)]
    depth = np.cumsum(np.where(kinds == 2, 0, kinds))
    closed = np.flatnonzero(depth < 0)
    stop = int(closed[0]) if len(closed) else len(depth)
    commas = places[:stop][(kinds[:stop] == 2) & (depth[:stop] == 0)] + 1
    if not len(closed) and not last:
        return commas.astype(np.int64)
    end = int(places[stop]) if len(closed) else len(data)
    begin = int(commas[-1]) if len(commas) else 0
    return np.append(commas, end).astype(np.int64) if plain[begin:end].strip(WHITE) else commas.astype(np.int64)


def parsed_items(data: bytes, last: bool) -> tuple[list[Any], Ends]:
    """The whole items that `data` begins with, parsed, and where they end as `item_ends` says.

    The parser finds the ends itself while all is sound; from the first item that is not, brackets tell them.
    """
    items, bounds = list[Any](), list[int]()
    text, size = _sound(data)
    closed = _parse(text, items, bounds)
    ends = np.asarray(bounds, np.int64) if text.isascii() else _in_bytes(data[:size], bounds)
    if closed:
        return items, ends
    begin = int(ends[-1]) if len(ends) else 0
    rest = item_ends(data[begin:], last) + begin
    parts = zip([begin, *rest[:-1].tolist()], rest.tolist(), strict=False)
    return [*items, *(one_item(data[start:end]) for start, end in parts)], np.concatenate([ends, rest])


def _sound(data: bytes) -> tuple[str, int]:
    """The text before the first byte that is not UTF-8, and its bytes."""
    try:
        return data.decode("utf-8", "surrogatepass"), len(data)
    except UnicodeDecodeError as error:
        return data[: error.start].decode("utf-8", "surrogatepass"), error.start


def _in_bytes(data: bytes, bounds: list[int]) -> Ends:
    """Places in a text as places in its bytes."""
    begins = np.flatnonzero(np.frombuffer(data, np.uint8) & 0xC0 != 0x80)
    return np.append(begins, len(data))[bounds]


def _parse(text: str, items: list[Any], bounds: list[int]) -> bool:
    """Add the items and where they end, up to one that is not sound or not whole; whether the array ends before that."""
    scan, follow = json.JSONDecoder().scan_once, FOLLOWS.match  # pyright: ignore[reportAttributeAccessIssue]
    at = len(text) - len(text.lstrip(BLANKS))
    try:
        while not text.startswith("]", at):
            item, end = scan(text, at)
            if text.startswith(", {", end):  # what most writers put there
                items.append(item)
                bounds.append(end + 1)
                at = end + 2
                continue
            found = follow(text, end)
            if found is None:
                return False
            items.append(item)
            bounds.append(found.end() if found[1] is None else found.end(1))
            at = found.end()
    except (StopIteration, ValueError, RecursionError):
        return False
    return True


def one_item(data: bytes) -> Any:
    """The value of one item, after which its comma may stand, or the reason and the detail why it has none."""
    try:
        return json.loads(data.strip(WHITE).removesuffix(b","))
    except (ValueError, RecursionError) as error:
        return MALFORMED, f"not JSON: {str(error)[:200]}"


def find_array(file: BinaryIO, head: bytes, key: str, path: str) -> tuple[int, bytes]:
    """Bytes before the first item of the array of records, and what was read of the items. Raises InputCorrupt.

    `head` was read of `file` already. What stands before the array is passed over piece by piece.
    """
    reader = _Reader(file, head, path)
    sign = reader.sign()
    if not key:
        if sign == b"[":
            return reader.skip(1)
        keys = ", ".join(reader.keys())[:400] if sign == b"{" else "none"
        raise InputCorrupt(f"{path} is no array of records; keys at its top: {keys}: set `items`, or use kind `jsonl`")
    if sign != b"{":
        raise InputCorrupt(f"{path} has no key {key!r}: it is no JSON object")
    seen = list[str]()
    for name in reader.members():
        seen.append(name)
        if name == key and reader.sign() == b"[":
            return reader.skip(1)
    raise InputCorrupt(f"{path} has no array under the key {key!r}; it has {', '.join(seen)[:400] or 'none'}")


class _Reader:
    """A place in a document, before which all is passed over."""

    def __init__(self, file: BinaryIO, head: bytes, path: str) -> None:
        self.file, self.rest, self.path, self.passed = file, head, path, 0

    def sign(self) -> bytes:
        """The next byte that is no white space; empty at the end."""
        while True:
            kept = self.rest.lstrip(WHITE)
            self._pass(len(self.rest) - len(kept))
            if kept or not self._more():
                return kept[:1]

    def skip(self, size: int) -> tuple[int, bytes]:
        """Pass over bytes that were read; how many were passed in all, and what is left of what was read."""
        self._pass(size)
        return self.passed, self.rest

    def members(self) -> Iterator[str]:
        """The keys of the object that begins here, each when its value is next; values are passed over."""
        self.skip(1)
        while self.sign() == b'"':
            name = json.loads(self._value())
            if self.sign() != b":":
                raise self._broken()
            self.skip(1)
            yield name
            self._pass_value()
            if self.sign() == b",":
                self.skip(1)

    def keys(self) -> list[str]:
        """The keys of the object that begins here."""
        return list(self.members())

    def _pass_value(self) -> None:
        if self.sign() != b"[":
            self._value()
            return
        self.skip(1)
        while self.sign() != b"]":
            ends = item_ends(self.rest, False)
            if len(ends):
                self.skip(int(ends[-1]))
            elif len(self.rest) > MAX_HEAD or not self._more():
                raise self._broken()
        self.skip(1)

    def _value(self) -> bytes:
        """The bytes of the next value, passed over; a number or a word ends before a comma or a bracket."""
        while True:
            size = _size(self.rest)
            if size:
                value, _ = self.rest[:size], self.skip(size)
                return value
            if len(self.rest) > MAX_HEAD or not self._more():
                raise self._broken()

    def _pass(self, size: int) -> None:
        self.rest, self.passed = self.rest[size:], self.passed + size

    def _more(self) -> bool:
        data = self.file.read(BLOCK)
        self.rest += data
        return bool(data)

    def _broken(self) -> InputCorrupt:
        return InputCorrupt(f"{self.path} is not sound JSON near byte {self.passed}: it is cut short or broken")


def _size(data: bytes) -> int:
    """Bytes of the value that `data` begins with; 0 where it may go on."""
    try:
        text = data.decode("latin-1")
        size = json.JSONDecoder().raw_decode(text)[1]
    except (ValueError, RecursionError):
        return 0
    return size if size < len(data) or data[:1] in b'"[{' else 0
