"""Concepts that captions speak of: an open list of objects, colours, counts, relations, styles, places and actions.

A concept is one or several forms of one to MOST words. Forms are compared as plain words, the longest that fits is
taken, and its words count for no other: "a traffic light" holds no light. All forms are looked up in one pass by hashes
of their words, so a form begins and ends where words do.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numba
import numpy as np
from jaxtyping import Int32, UInt64

from lightgen.decisions.shingles import FNV_OFFSET, Shingles, Words, closed_up, stirred, word_hash
from lightgen.texts import plain_words

# Of a form that stands in two lists the first counts.
KINDS = ("colors", "counts", "relations", "styles", "places", "actions", "objects")
MOST = 4  # words of a form


@dataclass(frozen=True)
class Concepts:
    """All concepts in order, and a hash table from the words of a form to its concept; -1 where a slot is free."""

    names: tuple[tuple[str, str], ...]
    keys: UInt64[np.ndarray, " slots"]
    values: Int32[np.ndarray, " slots"]

    def found(self, words: Words) -> Shingles:
        """The numbers of the concepts of each text, ascending; `words` are those of plain words."""
        return closed_up(*_match(words.hashes, words.offsets, self.keys, self.values), words.offsets)


@cache
def all_concepts() -> Concepts:
    """The list that ships."""
    names = tuple((kind, forms[0]) for kind in KINDS for forms in _read(kind))
    known: dict[int, int] = {}
    listed = (forms for kind in KINDS for forms in map(_with_plurals if kind == "objects" else list, _read(kind)))
    for number, forms in enumerate(listed):
        for form in forms:
            known.setdefault(_key(plain_words(form)), number)
    slots = 1 << (4 * len(known)).bit_length()
    keys, values = np.zeros(slots, np.uint64), np.full(slots, -1, np.int32)
    for key, number in known.items():
        slot = key % slots
        while values[slot] >= 0:
            slot = (slot + 1) % slots
        keys[slot], values[slot] = key, number
    return Concepts(names, keys, values)


def _read(kind: str) -> Iterator[list[str]]:
    """The forms of each concept of a kind."""
    lines = (
        resources.files("lightgen.decisions.concepts").joinpath(f"{kind}.txt").read_text(encoding="utf-8").splitlines()
    )
    for line in lines:
        if not line.startswith("#"):
            yield from (one.strip().split("|") for one in line.split(",") if one.strip())


def _with_plurals(forms: list[str]) -> list[str]:
    """`forms`, then their regular plurals."""
    return [*forms, *map(_plural, forms)]


def _plural(form: str) -> str:
    if form.endswith(("s", "x", "ch", "sh")):
        return f"{form}es"
    return f"{form[:-1]}ies" if form.endswith("y") and form[-2:-1] not in "aeiou" else f"{form}s"


def _key(form: str) -> int:
    words = form.split()
    assert 0 < len(words) <= MOST, f"{form!r}: 1 to {MOST} words"
    value = FNV_OFFSET
    with np.errstate(over="ignore"):
        for word in words:
            value = stirred.py_func(value ^ np.uint64(word_hash(word)))
    return int(value)


@numba.njit(cache=True)
def _lookup(keys: np.ndarray, values: np.ndarray, key: np.uint64) -> int:
    mask = np.uint64(len(keys) - 1)
    slot = key & mask
    while values[slot] >= 0:
        if keys[slot] == key:
            return values[slot]
        slot = (slot + np.uint64(1)) & mask
    return -1


@numba.njit(cache=True, parallel=True)
def _match(
    words: np.ndarray, offsets: np.ndarray, keys: np.ndarray, values: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The concepts of text i from offsets[i] on, and how many there are: a word has one at most."""
    out, counts = np.empty(len(words), np.uint32), np.zeros(len(offsets) - 1, np.int64)
    for i in numba.prange(len(counts)):
        mine = out[offsets[i] : offsets[i + 1]]
        found, at = 0, offsets[i]
        while at < offsets[i + 1]:
            value, best, taken = FNV_OFFSET, -1, 1
            for k in range(min(MOST, offsets[i + 1] - at)):
                value = stirred(value ^ words[at + k])
                number = _lookup(keys, values, value)
                if number >= 0:
                    best, taken = number, k + 1
            if best >= 0:
                place = found
                while place > 0 and mine[place - 1] > best:
                    place -= 1
                if place == 0 or mine[place - 1] != best:
                    for k in range(found, place, -1):
                        mine[k] = mine[k - 1]
                    mine[place] = best
                    found += 1
            at += taken
        counts[i] = found
    return out, counts
