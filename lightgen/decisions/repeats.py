"""Repeats: images whose hash is that of a kept one, or near it. The image with the smallest id is kept."""

from typing import Any, Literal

import numpy as np
import pyarrow as pa
from jaxtyping import Int64
from pydantic import Field

from lightgen.config import Config
from lightgen.decisions.columns import column, joined
from lightgen.decisions.hamming import BITS, repeated
from lightgen.decisions.rules import SLUG
from lightgen.errors import ConfigError


def _reason(given: dict[str, Any]) -> str:
    return "duplicate_near" if given["bits"] else "duplicate_exact"


class Repeats(Config):
    """When two images count as one."""

    column: str = Field(min_length=1, description="of hashes: text, such as image_sha256, or 64-bit perceptual hashes")
    bits: int = Field(default=0, ge=0, le=BITS, description="in which two perceptual hashes of a repeat may differ")
    group: Literal["caption"] | None = Field(
        default=None, description="caption: images of different captions are no repeats; a hash sees no colour"
    )
    reason: str = Field(default_factory=_reason, pattern=SLUG, description="what refused rows are counted under")


def first_kept(columns: pa.Table, rule: Repeats, alive: Int64[np.ndarray, " k"]) -> Int64[np.ndarray, " n"]:
    """For each row the row that is kept in its place; -1 where there is none.

    `alive` are the rows that count, by `id`, all with a hash. A row is kept unless an earlier kept one of its group has
    a hash within `bits`. So the order of the table changes nothing, kept rows are pairwise farther apart,
    and a refused row is that near to the first kept one.

    Time: see `hamming.repeated`. Raises ConfigError on a column that is not there, or is of text where bits are given.
    """
    hashes = _hashes(columns, rule).take(pa.array(alive))
    groups = np.zeros(len(alive), np.int64)
    if rule.group is not None:
        groups = _codes(column(columns, rule.group).take(pa.array(alive)))
    numbers = hashes.to_numpy() if pa.types.is_uint64(hashes.type) else _codes(hashes).astype(np.uint64)
    found = repeated(numbers, groups, rule.bits)
    out = np.full(columns.num_rows, -1, np.int64)
    out[alive[found >= 0]] = alive[found[found >= 0]]
    return out


def explained(columns: pa.Table, rule: Repeats, first: Int64[np.ndarray, " n"]) -> pa.LargeStringArray:
    """What each repeat repeats; one text for each row where `first` is not -1."""
    rows = np.flatnonzero(first >= 0)
    ids = columns["id"].combine_chunks().take(pa.array(first[rows]))
    if not rule.bits:
        return joined(f"same {rule.column} as", ids)
    hashes = _hashes(columns, rule)
    mine, theirs = (hashes.take(pa.array(at)).to_numpy() for at in (rows, first[rows]))
    return joined(rule.column, pa.array(np.bitwise_count(mine ^ theirs)), "bits from", ids)


def _hashes(columns: pa.Table, rule: Repeats) -> pa.Array:
    values = column(columns, rule.column)
    if not pa.types.is_uint64(values.type) and rule.bits:
        raise ConfigError(f"repeats of {rule.column}: it holds {values.type}, in which no bits differ; leave bits at 0")
    return values


def _codes(values: pa.Array) -> Int64[np.ndarray, " n"]:
    """A number for each value, equal for equal values."""
    return values.dictionary_encode().indices.to_numpy(zero_copy_only=False).astype(np.int64)
