"""Caps on pairs: of pairs that share a host, a source or the meaning of their caption only the clearest stay.

A decision over all pairs at once. Memory: 40 bytes a pair, and 4 * DIM bytes where captions are clustered. Time:
n log n, and n * clusters * DIM for clusters.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Int64
from pydantic import Field

from lightgen.config import Config
from lightgen.decisions.embed import hashed_ngrams
from lightgen.decisions.kcenter import ROWS, k_center

DIM = 256
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

    The caps are heeded one after the other: what one refuses is not counted by the next.
    Equal margins stay in the order of their ids. A pair without host or source is under no cap on them.
    """
    ids, margins = pairs["id"].to_numpy(zero_copy_only=False), pairs["margin"].to_numpy(zero_copy_only=False)
    order = np.lexsort((ids, -margins))
    alive, reasons = np.ones(len(ids), bool), dict[str, tuple[str, str]]()
    for cap in caps:
        values, known = _values(pairs, cap.column, clusters)
        over = _beyond(values, order[(alive & known)[order]], cap.most)
        for place in np.flatnonzero(over):
            detail = f"{cap.column} {values[place]!s:.100} has {cap.most} pairs of larger margins"
            reasons[str(ids[place])] = (cap.reason, detail)
        alive &= ~over
    return reasons


def _values(pairs: pa.Table, column: Column, clusters: int) -> tuple[np.ndarray, Bool[np.ndarray, " n"]]:
    """The value of each pair, and whether it has one."""
    if column == "cluster":
        numbers = caption_clusters(pairs["caption"].to_pylist(), clusters)
        return numbers, np.ones(len(numbers), bool)
    values = pairs[column].to_numpy(zero_copy_only=False)
    return values, values != ""


def _beyond(values: np.ndarray, order: Int64[np.ndarray, " k"], most: int) -> Bool[np.ndarray, " n"]:
    """Rows of `order` before which `most` others have the same value."""
    _, group = np.unique(values[order], return_inverse=True)
    by_group = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(group[by_group]) > 0]) if len(order) else np.zeros(0, np.int64)
    rank = np.arange(len(order)) - np.repeat(starts, np.diff(np.r_[starts, len(order)]))
    over = np.zeros(len(values), bool)
    over[order[by_group][rank >= most]] = True
    return over


def caption_clusters(captions: Sequence[str], clusters: int) -> Int64[np.ndarray, " n"]:
    """For each caption the number of the nearest of `clusters` captions that are far apart; equal captions share it."""
    distinct = sorted(set(captions))
    if not distinct:
        return np.zeros(0, np.int64)
    vectors = hashed_ngrams(distinct, DIM)
    centres, _ = k_center(vectors, clusters)
    nearest = [
        (vectors[first : first + ROWS] @ vectors[centres].T).argmax(axis=1) for first in range(0, len(distinct), ROWS)
    ]
    number = dict(zip(distinct, np.concatenate(nearest).tolist(), strict=True))
    return np.array([number[caption] for caption in captions], np.int64)
