"""Texts as sets of hashed word n-grams: the common ground of near-duplicates, decontamination and embeddings."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from jaxtyping import Int64, UInt64

BLOCK = 1 << 15  # texts that are read together
FNV_OFFSET, FNV_PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)


@dataclass(frozen=True)
class Shingles:
    """Sorted distinct 32-bit hashes of every text; text i owns hashes[offsets[i]:offsets[i + 1]]."""

    hashes: np.ndarray
    offsets: np.ndarray

    def of(self, text: int) -> np.ndarray:
        """The set of one text."""
        return self.hashes[self.offsets[text] : self.offsets[text + 1]]


@dataclass(frozen=True)
class Encoded:
    """Lower-cased texts as UTF-8; text i is data[starts[i]:starts[i + 1]]."""

    data: np.ndarray
    starts: np.ndarray


def encode(texts: Sequence[str]) -> Encoded:
    """The bytes that words are found in."""
    encoded = [text.lower().encode() for text in texts]
    starts = np.zeros(len(encoded) + 1, np.int64)
    np.cumsum([len(text) for text in encoded], out=starts[1:])
    return Encoded(np.frombuffer(b"".join(encoded), np.uint8) if encoded else np.zeros(0, np.uint8), starts)


def shingle(texts: Sequence[str], words: int) -> Shingles:
    """Lower-cased n-grams of `words` words; a shorter text is one shingle, an empty one none."""
    starts = range(0, len(texts), BLOCK)
    return joined([shingle_encoded(encode(texts[start : start + BLOCK]), words) for start in starts])


def joined(parts: Sequence[Shingles]) -> Shingles:
    """The texts of all parts, one after the other."""
    sizes = [np.diff(part.offsets) for part in parts]
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.concatenate([np.zeros(0, np.int64), *sizes]))])
    return Shingles(np.concatenate([np.zeros(0, np.uint32), *(part.hashes for part in parts)]), offsets)


def shingle_encoded(texts: Encoded, words: int) -> Shingles:
    """See `shingle`; takes some 6 bytes a byte of text while it works."""
    hashes, counts = _shingle(texts.data, texts.starts, words)
    offsets = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=offsets[1:])
    return Shingles(_packed(hashes, texts.starts, counts, offsets), offsets)


def content(texts: Encoded, fillers: Sequence[str]) -> tuple[UInt64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    """A hash of every text's words in order but for the fillers, and how many words it has with them."""
    return _content(texts.data, texts.starts, np.array([_fnv(word) for word in fillers], np.uint64))


def _fnv(word: str) -> int:
    value = int(FNV_OFFSET)
    for byte in word.encode():
        value = (value ^ byte) * int(FNV_PRIME) % 2**64
    return value


@numba.njit(cache=True)
def _is_word(byte: Any) -> bool:
    # Bytes of 128 and more belong to letters beyond ASCII.
    return 48 <= byte <= 57 or 97 <= byte <= 122 or byte >= 128


@numba.njit(cache=True)
def _shingle(data: np.ndarray, starts: np.ndarray, words: int) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of text i from starts[i] on (a text of n bytes has at most n words), and how many there are."""
    n = len(starts) - 1
    hashes = np.empty(len(data) + n, np.uint32)
    counts = np.zeros(n, np.int64)
    recent = np.zeros(words, np.uint64)
    for i in range(n):
        found, at, write = 0, starts[i], starts[i]
        while at < starts[i + 1]:
            if not _is_word(data[at]):
                at += 1
                continue
            value = FNV_OFFSET
            while at < starts[i + 1] and _is_word(data[at]):
                value = (value ^ np.uint64(data[at])) * FNV_PRIME
                at += 1
            recent[found % words] = value
            found += 1
            if found >= words:
                hashes[write] = _mixed(recent, found, words)
                write += 1
        if 0 < found < words:
            hashes[write] = _mixed(recent, found, found)
            write += 1
        block = np.sort(hashes[starts[i] : write])
        kept = 0
        for k in range(len(block)):
            if k == 0 or block[k] != block[k - 1]:
                hashes[starts[i] + kept] = block[k]
                kept += 1
        counts[i] = kept
    return hashes, counts


@numba.njit(cache=True)
def _mixed(recent: np.ndarray, found: int, words: int) -> np.uint32:
    """Hash of the last `words` words, in order."""
    value = FNV_OFFSET
    for k in range(words):
        value = _stirred(value ^ recent[(found - words + k) % len(recent)])
    return np.uint32(value >> np.uint64(32))


@numba.njit(cache=True)
def _stirred(value: Any) -> Any:
    """MurmurHash3's finaliser: FNV alone leaves words that end alike, such as numbers, with alike hashes."""
    value = (value ^ (value >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    value = (value ^ (value >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return value ^ (value >> np.uint64(33))


@numba.njit(cache=True)
def _packed(hashes: np.ndarray, starts: np.ndarray, counts: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    out = np.empty(offsets[-1], np.uint32)
    for i in range(len(counts)):
        out[offsets[i] : offsets[i + 1]] = hashes[starts[i] : starts[i] + counts[i]]
    return out


@numba.njit(cache=True)
def _content(data: np.ndarray, starts: np.ndarray, fillers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    n = len(starts) - 1
    out, counts = np.full(n, FNV_OFFSET, np.uint64), np.zeros(n, np.int64)
    for i in range(n):
        at = starts[i]
        while at < starts[i + 1]:
            if not _is_word(data[at]):
                at += 1
                continue
            value = FNV_OFFSET
            while at < starts[i + 1] and _is_word(data[at]):
                value = (value ^ np.uint64(data[at])) * FNV_PRIME
                at += 1
            counts[i] += 1
            filler = False
            for k in range(len(fillers)):
                filler |= fillers[k] == value
            if not filler:
                out[i] = _stirred(out[i] ^ value)
    return out, counts
