"""Caps on pairs: of pairs that share a host, a source or the meaning of their caption only the clearest stay.

A decision over all pairs at once. Memory: 100 bytes a pair, and 60 bytes a word and word pair of the distinct captions
where they are clustered. Time: n log n, and n * clusters additions for clusters.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
from jaxtyping import Int64
from pydantic import Field

from lightgen.config import Config
from lightgen.decisions.far_apart import Rarity, far_apart, nearest, terms_of
from lightgen.decisions.shingles import read_words
from lightgen.errors import escaped

Column = Literal["host", "source", "cluster"]


class Cap(Config):
    """At most so many pairs of one value."""

    column: Column = Field(description="of the winner; cluster: captions that are nearest to the same one")
    most: int = Field(ge=1, description="pairs that stay, those of the largest margins")

    @property
    def reason(self) -> str:
        """What pairs beyond it are refused for."""
        return f"cap_{self.column}"


def capped(pairs: pa.Table, caps: Sequence[Cap], clusters: int) -> dict[str, tuple[str, str]]:
    """Which of `pairs` (id, caption, margin, host, source) go beyond `caps`, by id: reason and detail.

    Pairs are taken from the largest margin down, equal ones in the order of their ids. One that a cap refuses counts
    for no other cap. A pair without host or source is under no cap on them.
    """
    ids, margins = pairs["id"].to_numpy(zero_copy_only=False), pairs["margin"].to_numpy(zero_copy_only=False)
    values = [_values(pairs, cap.column, clusters) for cap in caps]
    taken: list[Counter[str]] = [Counter() for _ in caps]
    reasons: dict[str, tuple[str, str]] = {}
    for place in np.lexsort((ids, -margins)).tolist():
        mine = [(cap, seen, of[place]) for cap, seen, of in zip(caps, taken, values, strict=True) if of[place]]
        full = next(((cap, value) for cap, seen, value in mine if seen[value] >= cap.most), None)
        if full is not None:
            cap, value = full
            detail = f"{cap.column} {escaped(value, 100)} has {cap.most} pairs of larger margins"
            reasons[str(ids[place])] = (cap.reason, detail)
            continue
        for _, seen, value in mine:
            seen[value] += 1
    return reasons


def _values(pairs: pa.Table, column: Column, clusters: int) -> list[str]:
    """The value of each pair; empty where it has none."""
    if column != "cluster":
        return pairs[column].to_pylist()
    return [f"{number}" for number in caption_clusters(pairs["caption"].to_pylist(), clusters)]


def caption_clusters(captions: Sequence[str], clusters: int) -> Int64[np.ndarray, " n"]:
    """For each caption the number of the nearest of `clusters` captions that are far apart; equal captions share it.

    Near are captions that share words. One that shares none with any of the `clusters` is of a kind of its own.
    """
    distinct = sorted(set(captions))
    terms = terms_of(read_words(distinct))
    rarity, whole = Rarity.of(terms), np.array([0, len(distinct)])
    count = np.array([min(clusters, len(distinct))])
    centres, _ = far_apart(terms, rarity, whole, count, np.zeros(len(distinct), bool))
    found = nearest(terms, rarity, centres)
    kinds = np.where(found < 0, clusters + np.arange(len(distinct)), found)
    number = dict(zip(distinct, kinds.tolist(), strict=True))
    return np.array([number[caption] for caption in captions], np.int64)
