"""An inventory of a corpus: its digest, and the ranges of rows that become shards, each with a digest of its own."""

import builtins
import hashlib
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Int64
from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

RANGE_BYTES = 64 << 20  # a range ends here, however few its rows are: a worker holds one in memory


class Range(NamedTuple):
    """Consecutive rows of a corpus; `size` is their bytes in the file, or those of their values."""

    rows: int
    size: int
    sha256: str


@dataclass(frozen=True)
class Place:
    """Where a range is: its first row, counted from 0, and its first byte in the file."""

    first: int
    offset: int
    range: Range

    @property
    def rows(self) -> builtins.range:
        """Its rows, counted from 0."""
        return range(self.first, self.first + self.range.rows)


class Inventory(BaseModel):
    """What was found in a corpus. Part of a plan, so it says nothing of where the corpus lies."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str  # of the whole file
    start: int = 0  # bytes before the first row
    column: int = 0  # which field of a record is the caption, in tables
    form: tuple[str, ...] = ()  # what was told from the content of how the file is written
    ranges: tuple[Range, ...] = ()

    @model_serializer(mode="wrap")
    def _without_form(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Most files have none to tell, and their versions keep the names that they had before there was `form`."""
        return {name: value for name, value in handler(self).items() if name != "form" or value}

    @property
    def rows(self) -> int:
        """Rows of all ranges."""
        return sum(one.rows for one in self.ranges)

    def places(self) -> Iterator[Place]:
        """Every range with its place, in order."""
        first, offset = 0, self.start
        for one in self.ranges:
            yield Place(first, offset, one)
            first, offset = first + one.rows, offset + one.size


class Cutter:
    """Cuts records, which come in pieces of a file, into ranges of `rows` records, of all or of the first `limit`."""

    def __init__(self, rows: int, limit: int | None) -> None:
        self.rows, self.left = rows, sys.maxsize if limit is None else limit
        self._ranges: list[Range] = []
        self._begin()

    def add(self, data: bytes, ends: Int64[np.ndarray, " n"]) -> None:
        """Records that end at these bytes of `data`, which begins where the records before ended."""
        view, start, first = memoryview(data), 0, 0
        ends = ends[: self.left]
        self.left -= len(ends)
        while first < len(ends):
            full = np.searchsorted(ends, start + RANGE_BYTES - self._size) + 1
            last = int(min(first + self.rows - self._records, len(ends), full))
            stop = int(ends[last - 1])
            self._digest.update(view[start:stop])
            self._records, self._size = self._records + last - first, self._size + stop - start
            start, first = stop, last
            if self._records == self.rows or self._size >= RANGE_BYTES:
                self._cut()

    def finish(self) -> tuple[Range, ...]:
        """End the range that is begun; all ranges."""
        if self._records:
            self._cut()
        return tuple(self._ranges)

    def _cut(self) -> None:
        self._ranges.append(Range(self._records, self._size, self._digest.hexdigest()))
        self._begin()

    def _begin(self) -> None:
        self._records, self._size, self._digest = 0, 0, hashlib.sha256()


def cut_values(arrays: Iterable[pa.LargeBinaryArray], rows: int, limit: int | None) -> tuple[Range, ...]:
    """Ranges of `rows` values each over all arrays, or over the first `limit` values."""
    return tuple(
        Range(len(values), payload(values).size, values_digest(values)) for values in _regrouped(arrays, rows, limit)
    )


def values_digest(values: pa.LargeBinaryArray) -> str:
    """Digest of values and nulls, whatever the buffers they lie in."""
    plain = values.fill_null(b"") if values.null_count else values
    lengths = np.diff(offsets(plain))
    lengths[np.asarray(values.is_null())] = -1
    digest = hashlib.sha256(lengths.astype("<i8").data)
    digest.update(payload(plain).data)
    return digest.hexdigest()


def _regrouped(arrays: Iterable[pa.LargeBinaryArray], rows: int, limit: int | None) -> Iterator[pa.LargeBinaryArray]:
    held: list[pa.LargeBinaryArray] = []
    size, left = 0, limit
    for array in arrays:
        rest = array if left is None else array[:left]
        left = None if left is None else left - len(rest)
        while len(rest):
            held.append(rest[: rows - size])
            size, rest = size + len(held[-1]), rest[len(held[-1]) :]
            if size == rows:
                yield pa.concat_arrays(held)
                held, size = [], 0
        if left == 0:
            break
    if held:
        yield pa.concat_arrays(held)


def offsets(values: pa.LargeBinaryArray) -> np.ndarray:
    """int64: where in the payload of the whole buffer each value begins, and where the last one ends."""
    raw = values.buffers()[1]
    return (
        np.frombuffer(raw, np.int64)[values.offset : values.offset + len(values) + 1] if raw else np.zeros(1, np.int64)
    )


def payload(values: pa.LargeBinaryArray) -> np.ndarray:
    """uint8: the bytes of all values, one after the other."""
    bounds, data = offsets(values), values.buffers()[2]
    return np.frombuffer(data, np.uint8)[bounds[0] : bounds[-1]] if data else np.zeros(0, np.uint8)
