"""The plain words of a column of texts: those of printable ASCII from bytes to bytes, others one by one."""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions when it is imported, where pyright does not see them.

from functools import cache
from typing import NamedTuple

import numba
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int64, UInt8, UInt64

from lightgen.decisions.shingles import FNV_OFFSET, FNV_PRIME, as_bytes, ends_of, word_hash
from lightgen.texts import SPELLINGS, plain_words

SPACE, PERCENT, AND, LESS, BACKSLASH, DELETE = 32, 37, 38, 60, 92, 127


class _Spellings(NamedTuple):
    """Words in order of their hashes, and what stands for each; word i is words[starts[i] : starts[i + 1]]."""

    hashes: UInt64[np.ndarray, " n"]
    words: UInt8[np.ndarray, " bytes"]
    starts: Int64[np.ndarray, " n_1"]
    others: UInt8[np.ndarray, " bytes"]
    other_starts: Int64[np.ndarray, " n_1"]


def plain_column(texts: pa.LargeStringArray) -> pa.LargeStringArray:
    """`plain_words` of each text, none of which is null."""
    data, starts = as_bytes(texts)
    simple = _simple(data, starts)
    out, ends = _plain(data, starts, simple, _spellings())
    plain = pa.LargeStringArray.from_buffers(len(texts), pa.py_buffer(ends), pa.py_buffer(out[: ends[-1]]))
    if simple.all():
        return plain
    others = pa.array(~simple)
    words = [plain_words(text) for text in texts.filter(others).to_pylist()]
    return pc.replace_with_mask(plain, others, pa.array(words, pa.large_string()))


@cache
def _spellings() -> _Spellings:
    words = sorted(SPELLINGS, key=word_hash)
    others = [SPELLINGS[word] for word in words]
    assert all(len(SPELLINGS[word]) <= len(word) for word in words), "what is written fits where its word stood"
    hashes = np.array([word_hash(word) for word in words], np.uint64)
    return _Spellings(hashes, *_joined(words), *_joined(others))


def _joined(words: list[str]) -> tuple[np.ndarray, np.ndarray]:
    return np.frombuffer("".join(words).encode(), np.uint8), ends_of(np.array([len(word) for word in words]))


@numba.njit(cache=True)
def _simple(data: np.ndarray, starts: np.ndarray) -> Bool[np.ndarray, " n"]:
    """Which texts `plain_words` takes as they are: printable ASCII without tags, entities, escapes and coded signs."""
    out = np.ones(len(starts) - 1, np.bool_)
    for i in range(len(out)):
        for at in range(starts[i], starts[i + 1]):
            sign = data[at]
            odd = sign in (PERCENT, AND, LESS, BACKSLASH)
            out[i] &= SPACE <= sign < DELETE and not odd
    return out


@numba.njit(cache=True)
def _plain(
    data: np.ndarray, starts: np.ndarray, simple: np.ndarray, known: _Spellings
) -> tuple[np.ndarray, np.ndarray]:
    """The plain words of `simple` texts one after the other, nothing of others; and where each begins."""
    out, ends, write = np.empty(starts[-1] - starts[0], np.uint8), np.zeros(len(starts), np.int64), 0
    for i in range(len(simple)):
        at, begin = starts[i], write
        while simple[i] and at < starts[i + 1]:
            value, first = FNV_OFFSET, write + np.int64(write > begin)
            last = first
            while at < starts[i + 1]:
                byte = data[at] + np.uint8(32) * np.uint8(65 <= data[at] <= 90)
                if not (48 <= byte <= 57 or 97 <= byte <= 122):
                    break
                out[last] = byte
                value = (value ^ np.uint64(byte)) * FNV_PRIME
                last, at = last + 1, at + 1
            at += 1
            if last == first:
                continue
            if first > begin:
                out[first - 1] = SPACE
            write = first + _respelled(out[first:last], value, known)
        ends[i + 1] = write
    return out, ends


@numba.njit(cache=True)
def _respelled(word: np.ndarray, value: np.uint64, known: _Spellings) -> int:
    """Writes what stands for a word in its place; its length."""
    place = np.searchsorted(known.hashes, value)
    if place == len(known.hashes) or known.hashes[place] != value:
        return len(word)
    mine = known.words[known.starts[place] : known.starts[place + 1]]
    if len(mine) != len(word) or np.any(mine != word):
        return len(word)
    other = known.others[known.other_starts[place] : known.other_starts[place + 1]]
    word[: len(other)] = other
    return len(other)
