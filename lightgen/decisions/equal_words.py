"""Captions of the same words, whatever their case and punctuation: which of them is the first."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64, UInt64
from xxhash import xxh3_128_digest

from lightgen.texts import plain_words


def word_digests(captions: Sequence[str]) -> UInt64[np.ndarray, "n 2"]:
    """128 bits for each caption, equal where its words are."""
    return digests_of([plain_words(caption) for caption in captions], captions)


def digests_of(plain: Sequence[str], captions: Sequence[str]) -> UInt64[np.ndarray, "n 2"]:
    """The same, of the plain words of captions; a caption without any word stays itself."""
    digests = [xxh3_128_digest((words or text).encode()) for words, text in zip(plain, captions, strict=True)]
    return np.frombuffer(b"".join(digests), np.uint64).reshape(-1, 2)


def first_of_equal(words: UInt64[np.ndarray, "n 2"], order: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """For each row the row of equal `words` that comes first in `order`: itself, if it is that one.

    `order` names all rows, first to last. Time n log n; memory: 40 bytes a row.
    """
    # Sorting is stable, so rows of equal words stay in `order`; of two words the second settles nearly nothing.
    ordered = words[order]
    grouped = np.argsort(ordered[:, 0], kind="stable")
    first = ordered[grouped, 0]
    tied = np.flatnonzero((first[1:] == first[:-1]) & (ordered[grouped[1:], 1] != ordered[grouped[:-1], 1]))
    if len(tied):
        grouped = np.lexsort(ordered.T)
    grouped = order[grouped]
    begins = np.ones(len(grouped), bool)
    begins[1:] = (words[grouped[1:]] != words[grouped[:-1]]).any(axis=1)
    found = np.empty_like(grouped)
    found[grouped] = grouped[np.flatnonzero(begins)[np.cumsum(begins) - 1]]
    return found
