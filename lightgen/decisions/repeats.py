"""Repeats: images whose hash is that of a kept one, or near it. The image with the smallest id is kept."""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions when it is imported, where pyright does not see them.

from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int64
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


def first_kept(columns: pa.Table, rule: Repeats, alive: Bool[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """For each row the row that is kept in its place; -1 where there is none, or `alive` is false.

    Rows are looked at in order of their `id`, and only the `alive` ones: a row is kept unless an earlier kept one of
    its group has a hash within `bits`. So the order of the table changes nothing, kept rows are pairwise farther apart,
    and a refused row is that near to the first kept one. Rows without a hash repeat nothing.

    Time: n log n for equal hashes, `hamming.repeated` for near ones. Raises ConfigError on a column that is not there,
    or is of text where `bits` is given.
    """
    values = _hashes(columns, rule)
    alive = alive & values.is_valid().to_numpy(zero_copy_only=False)
    places = np.flatnonzero(alive)
    places = places[pc.sort_indices(columns["id"].combine_chunks().take(pa.array(places))).to_numpy()]
    hashes = values.take(pa.array(places))
    groups = np.zeros(len(places), np.int64)
    if rule.group is not None:
        groups = _codes(column(columns, rule.group).take(pa.array(places)))
    if pa.types.is_uint64(values.type):
        found = repeated(hashes.to_numpy(), groups, rule.bits)
    else:
        found = repeated(_codes(hashes).astype(np.uint64), groups, 0)
    out = np.full(columns.num_rows, -1, np.int64)
    out[places[found >= 0]] = places[found[found >= 0]]
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
