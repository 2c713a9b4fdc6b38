"""Near-duplicate captions: which are kept, so that no two of them are nearly the same, whatever their order.

Captions have a priority: those of a kept version first, then by id. Two are joined by an edge if they share a band of
their MinHash signatures and the exact Jaccard similarity of their word n-grams is at least the threshold. Kept is the
lexicographically first maximal independent set: a caption is kept if no kept one of higher priority shares an edge with
it. So every refused caption is that near to a kept one, which is named; a chain of captions, each like the next, does
not collapse into one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int64, UInt64
from pydantic import Field

from lightgen.config import Config
from lightgen.decisions.buckets import share_a_band
from lightgen.decisions.independent_set import Texts, first_kept, first_same
from lightgen.decisions.minhash import Bands, plan_bands
from lightgen.decisions.shingles import BLOCK, Shingles, content, joined, ngrams, read_words

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


class Marks(NamedTuple):
    """What near-duplicates are told by: n-grams, a hash of the words but for fillers, and the number of words."""

    grams: Shingles
    content: UInt64[np.ndarray, " n"]
    length: Int64[np.ndarray, " n"]


def near_duplicates(
    ids: Sequence[str],
    texts: Sequence[str],
    config: NearDuplicateConfig,
    keep: Bool[np.ndarray, " n"] | None = None,
) -> NearDuplicates:
    """Which captions are kept, the same for any order; ids are ASCII and differ, `keep` marks those that come first."""
    names = np.array(ids, dtype="S") if ids else np.zeros(0, "S1")
    order = np.lexsort((names, ~keep)) if keep is not None else np.argsort(names)
    return refuse_near(marks_of(texts, config), order, config)


def marks_of(texts: Sequence[str], config: NearDuplicateConfig) -> Marks:
    """The marks of texts, some at a time."""
    parts = [_marks(texts[first : first + BLOCK], config) for first in range(0, len(texts), BLOCK)]
    hashes = np.concatenate([np.zeros(0, np.uint64), *(part.content for part in parts)])
    lengths = np.concatenate([np.zeros(0, np.int64), *(part.length for part in parts)])
    return Marks(joined([part.grams for part in parts]), hashes, lengths)


def _marks(texts: Sequence[str], config: NearDuplicateConfig) -> Marks:
    words = read_words(texts)
    return Marks(ngrams(words, config.words), *content(words, FILLERS))


def refuse_near(marks: Marks, order: Int64[np.ndarray, " k"], config: NearDuplicateConfig) -> NearDuplicates:
    """Which captions are kept of those that `order` names, from the highest priority down.

    Captions with the same n-grams and the same words but for fillers are compared once, and go together. In a bucket
    of more than 256 each caption is compared with the 64 kept ones that come nearest before it, and the bucket is split
    by further bands, where others are near. A caption without a word is kept.

    Time: bands x n, and at most bands x (256 + 64) comparisons a caption. Memory beside the marks: their n-grams twice,
    64 bytes a caption, 12 bytes for each bucket that a caption shares.
    """
    same, alone, mine = _alone(marks, order, config.short_words)
    bands = Bands(Shingles(mine.hashes, mine.offsets), *plan_bands(config.threshold, config.recall))
    kept, compared, skipped = first_kept(mine, len(alone), share_a_band(bands), config.threshold)
    twin = np.full(len(order), -1, np.int64)
    twin[alone] = np.where(kept >= 0, alone[kept], -1)
    repeats = same != np.arange(len(same))
    twin[repeats] = np.where(twin[same] >= 0, twin[same], same)[repeats]
    refused = np.full(len(marks.content), -1, np.int64)
    refused[order] = np.where(twin >= 0, order[twin], -1)
    return NearDuplicates(refused, compared, skipped)


def _alone(marks: Marks, order: Int64[np.ndarray, " k"], short: int) -> tuple[np.ndarray, np.ndarray, Texts]:
    """The first text of the same marks for each of `order`; those that are the first and have n-grams; their texts."""
    given = Texts.of(marks.grams.take(order), marks.content[order], marks.length[order] <= short)
    same = first_same(given)
    alone = np.flatnonzero((same == np.arange(len(same))) & (np.diff(given.offsets) > 0))
    return same, alone, given.take(alone)
