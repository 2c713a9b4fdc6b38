"""Captions of the same words, whatever their case and punctuation: which of them is the first."""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions when it is imported, where pyright does not see them.

import itertools

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int64, UInt64
from xxhash import xxh3_128_digest

from lightgen.decisions.shingles import as_bytes


def word_digests(plain: pa.LargeStringArray, captions: pa.LargeStringArray) -> UInt64[np.ndarray, "n 2"]:
    """128 bits for each caption, equal where its plain words are; a caption without any word stays itself."""
    data, starts = as_bytes(pc.if_else(pc.equal(pc.binary_length(plain), 0), captions, plain))
    view = data.data
    digests = [xxh3_128_digest(view[start:end]) for start, end in itertools.pairwise(starts.tolist())]
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
