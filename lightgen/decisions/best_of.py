"""Best of N: of the images of one prompt those with the greatest value of a score are kept."""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions when it is imported, where pyright does not see them.

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int64
from pydantic import Field, model_validator

from lightgen.config import Config
from lightgen.decisions.columns import column, joined, numbers
from lightgen.decisions.rules import SLUG


class Best(Config):
    """Which images of a group are kept: the `keep` best of `of` by a column; of equal ones the smallest ids."""

    column: str = Field(min_length=1, description="of the scores, greater is better; `<score>.<column>`")
    group: Literal["prompt_id", "caption"] = Field(default="prompt_id", description="images that compete")
    of: int | None = Field(
        default=None, ge=1, description="images of a group that compete, those of the smallest ids; without it all"
    )
    keep: int = Field(default=1, ge=1, description="images of a group that are kept")
    reason: str = Field(default="not_best", pattern=SLUG, description="what refused rows are counted under")

    @model_validator(mode="after")
    def _some_lose(self) -> "Best":
        if self.of is not None and self.keep > self.of:
            raise ValueError(f"best of {self.column} keeps {self.keep} of {self.of}; keep fewer")
        return self


@dataclass(frozen=True)
class Contest:
    """What became of the rows that compete.

    lost: which rows of the table are refused
    winner: for each row that competed the row of the best of its group, else -1
    absent: which rows were not among the first `of` of their group, so that nobody compared them
    """

    lost: Bool[np.ndarray, " n"]
    winner: Int64[np.ndarray, " n"]
    absent: Bool[np.ndarray, " n"]


def scored(columns: pa.Table, rule: Best) -> Bool[np.ndarray, " n"]:
    """Rows that have a value to be compared by: neither missing nor NaN. Raises ConfigError, as `numbers` does."""
    values = numbers(columns, rule.column)
    return pc.fill_null(pc.invert(pc.is_nan(values)), False).to_numpy(zero_copy_only=False)


def contest(columns: pa.Table, rule: Best, alive: Int64[np.ndarray, " k"]) -> Contest:
    """The best of each group of the rows `alive`, which are in order of id and all have a value.

    The order of the table changes nothing. Time: k log k.
    """
    groups = column(columns, rule.group).take(pa.array(alive)).dictionary_encode().indices.to_numpy()
    values = numbers(columns, rule.column).take(pa.array(alive)).to_numpy(zero_copy_only=False)
    by_id = np.arange(len(alive))
    lost, absent = np.zeros(columns.num_rows, bool), np.zeros(columns.num_rows, bool)
    winner = np.full(columns.num_rows, -1, np.int64)
    competes = np.ones(len(alive), bool) if rule.of is None else _place(groups, by_id)[0] < rule.of
    # Who is not compared comes last in its group, whatever its value.
    place, first = _place(groups, np.lexsort((by_id, -values, ~competes)).argsort())
    lost[alive], absent[alive] = (place >= rule.keep) | ~competes, ~competes
    winner[alive] = alive[first]
    return Contest(lost, winner, absent)


def explained(columns: pa.Table, rule: Best, found: Contest) -> pa.LargeStringArray:
    """Against whom each row lost; one text for each row of `lost`."""
    rows, ids = np.flatnonzero(found.lost), columns["id"].combine_chunks()
    values, best = numbers(columns, rule.column), found.winner[rows]
    against = joined(
        rule.column, values.take(pa.array(rows)), "against", values.take(pa.array(best)), "of", ids.take(pa.array(best))
    )
    absent = joined(f"not among the first {rule.of} of its {rule.group}, of which", ids.take(pa.array(best)), "is best")
    return pc.if_else(pa.array(found.absent[rows]), absent, against)


def _place(
    groups: Int64[np.ndarray, " k"], order: Int64[np.ndarray, " k"]
) -> tuple[Int64[np.ndarray, " k"], Int64[np.ndarray, " k"]]:
    """Of each row its place in its group by ascending `order`, and the first row of the group."""
    at = np.lexsort((order, groups))
    starts = np.flatnonzero(np.r_[True, np.diff(groups[at]) != 0]) if len(at) else at
    sizes = np.diff(np.r_[starts, len(at)])
    place, first = np.empty(len(at), np.int64), np.empty(len(at), np.int64)
    place[at] = np.arange(len(at)) - np.repeat(starts, sizes)
    first[at] = np.repeat(at[starts], sizes)
    return place, first
