"""Captions shaped as real ones are, for benchmarks: lengths, rare words, repeats and near-repeats; drawn in columns."""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions when it is imported, where pyright does not see them.

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lightgen.decisions.concepts import all_concepts

BLOCK = 100_000
EXACT, NEAR = 0.05, 0.12  # shares of captions that repeat an earlier one, and that differ from one by a word
LONG = 0.15  # share that has four sentences
NAMES = 200_000  # rare words
OPENINGS = (
    "a",
    "the",
    "a photo of a",
    "two",
    "there is a",
    "an image of a",
    "some",
    "three",
    "close up of a",
    "this is a",
)
ARTICLES = ("a", "the", "his", "her", "a very", "some", "their", "an old", "the same", "another")
# What stands at each place of a sentence: an opening, a kind of concept, or a rare name in one of some.
PLACES = (
    OPENINGS,
    "colors",
    "objects",
    "actions",
    "relations",
    ARTICLES,
    "objects",
    "near",
    "places",
    "name",
    "styles",
)
EMPTY = (0.0, 0.5, 0.0, 0.3, 0.1, 0.1, 0.0, 0.5, 0.5, 0.75, 0.8)  # shares of sentences without that place


def real_shaped(n: int, seed: int = 0) -> pa.ChunkedArray:
    """`n` captions of some nine words, LONG of them of some 36, made in whole blocks."""
    parts = [_block(seed + number) for number in range(-(-n // BLOCK))]
    return pa.chunked_array(parts, pa.large_string()).slice(0, n)


def _block(seed: int) -> pa.Array:
    rng = np.random.default_rng(seed)
    numbers = _numbers(rng)
    repeated = rng.random(BLOCK)
    again = np.flatnonzero(repeated < EXACT + NEAR)
    source = rng.integers(BLOCK, size=len(again))
    place = np.where(repeated[again] < EXACT, -1, rng.integers(len(PLACES), size=len(again)))
    for at, column in enumerate(numbers):
        same = again[place != at]
        column[same] = column[source[place != at]]
    more = [_sentences(_numbers(rng)) for _ in range(3)]
    long = pa.array(rng.random(BLOCK) < LONG)
    short = _sentences(numbers)
    return pc.if_else(long, pc.binary_join_element_wise(short, *more, ", "), short).cast(pa.large_string())


def _numbers(rng: np.random.Generator) -> list[np.ndarray]:
    """For each place the number of its word, the frequent ones small; -1 where there is none."""
    columns = []
    for what, empty in zip(PLACES, EMPTY, strict=True):
        most = len(_words(what)) if what != "name" else NAMES
        drawn = np.floor(np.exp(rng.random(BLOCK) * np.log(most + 1))).astype(np.int64) - 1
        columns.append(np.where(rng.random(BLOCK) < empty, -1, np.minimum(drawn, most - 1)))
    return columns


def _words(what: str | tuple[str, ...]) -> list[str]:
    if isinstance(what, tuple):
        return list(what)
    if what == "near":
        return ["in the", "at a", "near the", "on a", "by the"]
    return [name for kind, name in all_concepts().names if kind == what]


def _sentences(numbers: list[np.ndarray]) -> pa.Array:
    columns = []
    for what, drawn in zip(PLACES, numbers, strict=True):
        if what == "name":
            names = pc.binary_join_element_wise("called", pc.cast(pa.array(drawn), pa.string()), " zq")
            columns.append(pc.if_else(pa.array(drawn < 0), pa.scalar(None, pa.string()), names))
        else:
            columns.append(pc.take(pa.array(_words(what)), pa.array(drawn, mask=drawn < 0)))
    return pc.binary_join_element_wise(*columns, " ", null_handling="skip")
