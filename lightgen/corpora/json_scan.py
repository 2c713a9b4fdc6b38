"""Finds the records of an array in a JSON document without parsing it: brackets, commas and quotes are enough."""

import json
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Int64

from lightgen.corpora.json_values import json_values
from lightgen.corpora.plain_bytes import BLOCK
from lightgen.corpora.raw import MALFORMED
from lightgen.errors import InputCorrupt

MAX_HEAD = 64 << 20  # bytes of a value, other than an array of records, that is passed over
KINDS = bytes.maketrans(b'[{]},"', bytes([1, 1, 255, 255, 2, 3]))
OTHERS = bytes(sign for sign in range(256) if sign not in b'[{]},"')
MARKS = bytes(KINDS[sign] if sign not in OTHERS else 0 for sign in range(256))  # -1 is 255
WHITE = b" \t\r\n"
LONGEST_KEY, TRIES = 256, 3
PIECE, GROWTH = 1 << 12, 4  # bytes of a value that are looked at first, and how many more each time
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


def items_at_once(data: bytes, last: bool) -> tuple[list[Any], int] | None:
    """The items of `data` up to the end of the array or to one of the last commas, parsed in one call, and their bytes.

    `last` says that nothing comes after `data`, so that the array ends in it. Before a comma must stand what the parser
    takes for whole items, and after it what the first item begins with. None where that fails: such items are found by
    `item_ends`.
    """
    if last and (found := _parsed(data, len(data.rstrip(WHITE)) - 1, b"]")):
        return found
    begins, end = data[:LONGEST_KEY].lstrip(WHITE), len(data)
    first = b'"' if begins.startswith(b'"') else begins[: begins.find(b":") + 1]
    if not first.startswith((b"{", b'"')):
        return None
    for _ in range(TRIES):
        end = data.rfind(first, 0, end)
        before = data[max(end - LONGEST_KEY, 0) : max(end, 0)].rstrip(WHITE)
        if end <= 0 or not before:
            return None
        comma = max(end - LONGEST_KEY, 0) + len(before) - 1
        if found := _parsed(data, comma, b","):
            return found[0], comma + 1
    return None


def _parsed(data: bytes, end: int, sign: bytes) -> tuple[list[Any], int] | None:
    """The items before the sign that stands at `end`, and their bytes; None where another stands there, or no items."""
    if data[end : end + 1] != sign:
        return None
    try:
        return json_values(memoryview(data)[:end]), end
    except (ValueError, RecursionError):
        return None


def one_item(data: bytes) -> Any:
    """The value of one item, after which its comma may stand, or the reason and the detail why it has none.

    Bytes that are no UTF-8 become surrogates: whether they matter is told where the captions are.
    """
    try:
        return json.loads(data.strip(WHITE).removesuffix(b",").decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError) as error:
        return MALFORMED, f"not JSON: {str(error)[:200]}"


def find_array(file: BinaryIO, head: bytes, key: str, path: str) -> tuple[int, bytes]:
    """Bytes before the first item of the array of records, and what was read of the items. Raises InputCorrupt.

    `head` was read of `file` already. What stands before the array is passed over piece by piece.
    """
    reader = _Reader(file, head, path)
    sign = reader.sign()
    if not sign:
        raise InputCorrupt(f"{path} is empty. Fetch or write it again")
    if not key:
        if sign == b"[":
            return reader.skip(1)
        if sign != b"{":
            raise InputCorrupt(f"{path} is no JSON document: it begins with {reader.rest[:20]!r}. Check its kind")
        keys = _shown(reader.keys())
        raise InputCorrupt(f"{path} is no array of records; keys at its top: {keys}: set `items`, or use kind `jsonl`")
    if sign != b"{":
        raise InputCorrupt(f"{path} has no key {key!r}: it is no JSON object")
    seen = list[str]()
    for name in reader.members():
        seen.append(name)
        if name == key and reader.sign() == b"[":
            return reader.skip(1)
    raise InputCorrupt(f"{path} has no array under the key {key!r}; it has {_shown(seen)}: set `items`")


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
            name = json.loads(self._value().decode("utf-8", "surrogateescape"))
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
        piece = PIECE
        while self.sign() != b"]":
            ends = item_ends(self.rest[:piece], False)
            if len(ends):
                self.skip(int(ends[-1]))
            elif piece >= len(self.rest) and (len(self.rest) > MAX_HEAD or not self._more()):
                raise self._broken()
            piece *= GROWTH
        self.skip(1)

    def _value(self) -> bytes:
        """The bytes of the next value, passed over; a number or a word ends before a comma or a bracket."""
        while True:
            if size := _size(self.rest[:PIECE]) or _size(self.rest):
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


def _shown(keys: list[str]) -> str:
    """Keys in plain ASCII, whatever they are."""
    return ", ".join(ascii(key)[1:-1] for key in keys)[:400] or "none"


def _size(data: bytes) -> int:
    """Bytes of the value that `data` begins with; 0 where it may go on."""
    try:
        text = data.decode("latin-1")
        size = json.JSONDecoder().raw_decode(text)[1]
    except (ValueError, RecursionError):
        return 0
    return size if size < len(data) or data[:1] in b'"[{' else 0
