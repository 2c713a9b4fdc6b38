"""Near-duplicate captions: which are kept, so that no two of them are nearly the same, whatever their order.

Captions have a priority: those of a kept version first, then by id. Two are joined by an edge if they share a band of
their MinHash signatures and the exact Jaccard similarity of their word n-grams is at least the threshold. Kept is the
lexicographically first maximal independent set: a caption is kept if no kept one of higher priority shares an edge with
it. So every refused caption is that near to a kept one, which is named; a chain of captions, each like the next, does
not collapse into one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64
from pydantic import Field

from lightgen.config import Config
from lightgen.decisions.buckets import share_a_band
from lightgen.decisions.independent_set import Texts, first_kept, first_same
from lightgen.decisions.minhash import band_keys, plan_bands
from lightgen.decisions.shingles import BLOCK, Shingles, content, encode, joined, shingle_encoded

# Words that leave what a caption shows as it is.
FILLERS = ("a", "an", "the", "some", "is", "are", "was", "were", "be", "being")


class NearDuplicateConfig(Config):
    """When two captions count as one."""

    threshold: float = Field(default=0.7, gt=0, le=1, description="Jaccard similarity of the word n-grams")
    words: int = Field(default=2, ge=1, le=8, description="words an n-gram; 3 is too strict for short captions")
    recall: float = Field(
        default=0.998, gt=0, lt=1, description="wanted share of pairs at the threshold that are found"
    )
    short_words: int = Field(
        default=12,
        ge=0,
        description="where one of two captions has no more words, they must also be equal but for articles and forms "
        "of `be`: in a short caption one noun makes another picture; 0: no such rule",
    )


@dataclass(frozen=True)
class NearDuplicates:
    """What is kept.

    refused: index of the kept caption in whose place a caption goes; -1 if kept
    compared: pairs whose similarity was computed
    skipped: pairs that share a bucket and were not compared, because it holds too many
    """

    refused: Int64[np.ndarray, " n"]
    compared: int
    skipped: int


def near_duplicates(
    ids: Sequence[str],
    texts: Sequence[str],
    config: NearDuplicateConfig,
    keep: Bool[np.ndarray, " n"] | None = None,
) -> NearDuplicates:
    """Which captions are kept, the same for any order; ids are ASCII and differ, `keep` marks those that come first.

    Captions with the same n-grams and the same words but for fillers are compared once, and go together. A bucket of
    more than 256 is split by further bands; in one that no band splits, each caption is compared with the 256 kept
    ones that come nearest before it. A caption without a word is kept.

    Time: bands x n log n, and at most bands x 256 comparisons a caption. Memory beside ids and texts: 8 bytes a band
    and caption, 8 bytes an n-gram, 12 bytes for each bucket that a caption shares.
    """
    order = _by_priority(ids, keep)
    given = _read(texts, order, config)
    same = first_same(given)
    repeats = same != np.arange(len(same))
    alone = np.flatnonzero(~repeats & (np.diff(given.offsets) > 0))
    grams = Shingles(given.hashes, given.offsets)
    buckets = share_a_band(band_keys(grams, *plan_bands(config.threshold, config.recall)), alone)
    twin, compared, skipped = first_kept(given, buckets, config.threshold)
    twin[repeats] = np.where(twin[same] >= 0, twin[same], same)[repeats]
    refused = np.full(len(ids), -1, np.int64)
    refused[order] = np.where(twin >= 0, order[twin], -1)
    return NearDuplicates(refused, compared, skipped)


def _by_priority(ids: Sequence[str], keep: Bool[np.ndarray, " n"] | None) -> Int64[np.ndarray, " n"]:
    """Indices in order of priority."""
    names = np.array(ids, dtype="S") if ids else np.zeros(0, "S1")
    return np.lexsort((names, ~keep)) if keep is not None else np.argsort(names)


def _read(texts: Sequence[str], order: Int64[np.ndarray, " n"], config: NearDuplicateConfig) -> Texts:
    """The texts in order, some at a time."""
    grams, words, short = [], [np.zeros(0, np.uint64)], [np.zeros(0, bool)]
    for start in range(0, len(order), BLOCK):
        encoded = encode(list(map(texts.__getitem__, order[start : start + BLOCK].tolist())))
        hashes, length = content(encoded, FILLERS)
        grams.append(shingle_encoded(encoded, config.words))
        words.append(hashes)
        short.append(length <= config.short_words)
    whole = joined(grams)
    return Texts(whole.hashes, whole.offsets, np.concatenate(words), np.concatenate(short))
