"""Texts as words and as sets of hashed word n-grams: the common ground of near-duplicates, decontamination and choice.

Texts are read as Arrow lays them out, bytes after bytes, so that no text becomes a Python object of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int64, UInt8, UInt32, UInt64

from lightgen.decisions.mapped import forget

BLOCK = 1 << 16  # texts that are read together
FILE_BLOCK = 1 << 20  # texts that are taken from a file before its pages are let go
FNV_OFFSET, FNV_PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)
TINY = 64  # n-grams that are sorted by insertion


@dataclass(frozen=True)
class Words:
    """A hash of every word; text i owns hashes[offsets[i]:offsets[i + 1]], in order."""

    hashes: UInt64[np.ndarray, " words"]
    offsets: Int64[np.ndarray, " n_1"]


@dataclass(frozen=True)
class Shingles:
    """Sorted distinct 32-bit hashes of every text; text i owns hashes[offsets[i]:offsets[i + 1]]."""

    hashes: UInt32[np.ndarray, " grams"]
    offsets: Int64[np.ndarray, " n_1"]

    def of(self, text: int) -> np.ndarray:
        """The set of one text."""
        return self.hashes[self.offsets[text] : self.offsets[text + 1]]

    def take(self, texts: Int64[np.ndarray, " k"]) -> "Shingles":
        """Some of the texts, in the order of `texts`. Of hashes in a file, no page stays in memory."""
        offsets = ends_of(np.diff(self.offsets)[texts])
        if not isinstance(self.hashes, np.memmap):
            return Shingles(_taken(self.hashes, self.offsets, texts, offsets), offsets)
        # From the beginning of the file to its end, so that every page is read once.
        order, out = np.argsort(texts), np.empty(offsets[-1], self.hashes.dtype)
        for first in range(0, len(order), FILE_BLOCK):
            _copy(self.hashes, self.offsets, texts, order[first : first + FILE_BLOCK], out, offsets)
            forget(self.hashes)
        return Shingles(out, offsets)


def ends_of(counts: np.ndarray) -> Int64[np.ndarray, " n_1"]:
    """Where each of some runs of numbers begins, and the end of the last."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])


def read_words(texts: Sequence[str] | pa.LargeStringArray) -> Words:
    """The words of texts, lower-cased: runs of ASCII letters and digits, and of whatever is beyond ASCII."""
    array: Any = pa.array(texts, pa.large_string()) if isinstance(texts, Sequence) else texts
    if not pc.all(pc.string_is_ascii(array)).as_py():  # pyright: ignore[reportAttributeAccessIssue]
        array = pc.utf8_lower(array)  # pyright: ignore[reportAttributeAccessIssue]
    data, starts = as_bytes(array)
    offsets = ends_of(_count_words(data, starts))
    return Words(_hash_words(data, starts, offsets), offsets)


def as_bytes(texts: pa.LargeStringArray) -> tuple[UInt8[np.ndarray, " bytes"], Int64[np.ndarray, " n_1"]]:
    """UTF-8 of all texts as it lies in memory; text i is data[starts[i] : starts[i + 1]]."""
    if not len(texts):
        return np.zeros(0, np.uint8), np.zeros(1, np.int64)
    _, offsets, data = texts.buffers()
    starts = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    return np.frombuffer(data, np.uint8) if data is not None and data.size else np.zeros(0, np.uint8), starts


def shingle(texts: Sequence[str], words: int) -> Shingles:
    """Lower-cased n-grams of `words` words; a shorter text is one shingle, an empty one none."""
    blocks = range(0, len(texts), BLOCK)
    return joined([ngrams(read_words(texts[first : first + BLOCK]), words) for first in blocks])


def joined(parts: Sequence[Shingles]) -> Shingles:
    """The texts of all parts, one after the other."""
    sizes = [np.zeros(0, np.int64), *(np.diff(part.offsets) for part in parts)]
    hashes = [np.zeros(0, np.uint32), *(part.hashes for part in parts)]
    return Shingles(np.concatenate(hashes), ends_of(np.concatenate(sizes)))


def ngrams(words: Words, n: int) -> Shingles:
    """The n-grams of each text as a set; a text of fewer words is one n-gram, one without words has none."""
    have = np.diff(words.offsets)
    room = ends_of(np.where(have > 0, np.maximum(have - n + 1, 1), 0))
    return closed_up(*_ngrams(words.hashes, words.offsets, room, n), room)


def closed_up(
    hashes: UInt32[np.ndarray, " room"], counts: Int64[np.ndarray, " n"], room: Int64[np.ndarray, " n_1"]
) -> Shingles:
    """Texts whose first `counts` hashes are theirs of the room that each has from room[i] on."""
    offsets = ends_of(counts)
    return Shingles(_taken(hashes, room, np.arange(len(counts)), offsets), offsets)


def content(words: Words, fillers: Sequence[str]) -> tuple[UInt64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    """A hash of every text's words in order but for the fillers, and how many words it has with them."""
    left = np.array([word_hash(word) for word in fillers], np.uint64)
    return _content(words.hashes, words.offsets, left), np.diff(words.offsets)


def without(words: Words, some: Sequence[str]) -> Words:
    """The words of each text but for `some`."""
    stays = ~np.isin(words.hashes, np.array([word_hash(word) for word in some], np.uint64))
    return Words(words.hashes[stays], ends_of(stays)[words.offsets])


def word_hash(word: str) -> int:
    """The hash that `read_words` gives a word in lower case."""
    value = int(FNV_OFFSET)
    for byte in word.encode():
        value = (value ^ byte) * int(FNV_PRIME) % 2**64
    return value


@numba.njit(cache=True)
def _lower(byte: Any) -> Any:
    return byte + 32 if 65 <= byte <= 90 else byte


@numba.njit(cache=True)
def _is_word(byte: Any) -> bool:
    # Bytes of 128 and more belong to letters beyond ASCII.
    return 48 <= byte <= 57 or 97 <= byte <= 122 or byte >= 128


@numba.njit(cache=True, parallel=True)
def _count_words(data: np.ndarray, starts: np.ndarray) -> np.ndarray:
    counts = np.zeros(len(starts) - 1, np.int64)
    for i in numba.prange(len(counts)):
        before, found = False, 0
        for at in range(starts[i], starts[i + 1]):
            inside = _is_word(_lower(data[at]))
            found += int(inside and not before)
            before = inside
        counts[i] = found
    return counts


@numba.njit(cache=True, parallel=True)
def _hash_words(data: np.ndarray, starts: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    out = np.empty(offsets[-1], np.uint64)
    for i in numba.prange(len(starts) - 1):
        at, write = starts[i], offsets[i]
        while at < starts[i + 1]:
            if not _is_word(_lower(data[at])):
                at += 1
                continue
            value = FNV_OFFSET
            while at < starts[i + 1] and _is_word(_lower(data[at])):
                value = (value ^ np.uint64(_lower(data[at]))) * FNV_PRIME
                at += 1
            out[write] = value
            write += 1
    return out


@numba.njit(cache=True, parallel=True)
def _ngrams(words: np.ndarray, offsets: np.ndarray, room: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of text i from room[i] on, and how many there are."""
    hashes, counts = np.empty(room[-1], np.uint32), np.zeros(len(room) - 1, np.int64)
    for i in numba.prange(len(counts)):
        length = min(n, offsets[i + 1] - offsets[i])
        for k in range(room[i + 1] - room[i]):
            value = FNV_OFFSET
            for at in range(offsets[i] + k, offsets[i] + k + length):
                value = stirred(value ^ words[at])
            hashes[room[i] + k] = np.uint32(value >> np.uint64(32))
        counts[i] = _distinct(hashes[room[i] : room[i + 1]])
    return hashes, counts


@numba.njit(cache=True)
def _distinct(values: np.ndarray) -> int:
    """Sorts `values` in place, the distinct ones first; how many these are."""
    if len(values) > TINY:
        values.sort()
    else:
        for k in range(1, len(values)):
            value, at = values[k], k
            while at > 0 and values[at - 1] > value:
                values[at] = values[at - 1]
                at -= 1
            values[at] = value
    kept = 0
    for k in range(len(values)):
        if k == 0 or values[k] != values[kept - 1]:
            values[kept] = values[k]
            kept += 1
    return kept


@numba.njit(cache=True)
def stirred(value: Any) -> Any:
    """MurmurHash3's finaliser: FNV alone leaves words that end alike, such as numbers, with alike hashes."""
    value = (value ^ (value >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    value = (value ^ (value >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return value ^ (value >> np.uint64(33))


@numba.njit(cache=True, parallel=True)
def _taken(values: np.ndarray, starts: np.ndarray, texts: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """The first numbers of each of `texts`, as many as `offsets` has room for."""
    out = np.empty(offsets[-1], values.dtype)
    for k in numba.prange(len(texts)):
        first = starts[texts[k]]
        for at in range(offsets[k + 1] - offsets[k]):
            out[offsets[k] + at] = values[first + at]
    return out


@numba.njit(cache=True, parallel=True)
def _copy(
    values: np.ndarray, starts: np.ndarray, texts: np.ndarray, places: np.ndarray, out: np.ndarray, offsets: np.ndarray
) -> None:
    """The numbers of texts[place] to where `offsets` has room for them, for each of `places`."""
    for k in numba.prange(len(places)):
        place = places[k]
        first, begin = starts[texts[place]], offsets[place]
        for at in range(offsets[place + 1] - begin):
            out[begin + at] = values[first + at]


@numba.njit(cache=True, parallel=True)
def _content(words: np.ndarray, offsets: np.ndarray, fillers: np.ndarray) -> np.ndarray:
    out = np.empty(len(offsets) - 1, np.uint64)
    for i in numba.prange(len(out)):
        value = FNV_OFFSET
        for at in range(offsets[i], offsets[i + 1]):
            filler = False
            for k in range(len(fillers)):
                filler |= fillers[k] == words[at]
            if not filler:
                value = stirred(value ^ words[at])
        out[i] = value
    return out
