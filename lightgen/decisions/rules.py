"""Rules over columns of scores: the least and the most that a value may be. A score holds no threshold, a rule does."""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions when it is imported, where pyright does not see them.

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int16
from pydantic import ConfigDict, Field, model_validator

from lightgen.config import Config
from lightgen.decisions.columns import joined, numbers, texts, why_unscored

SLUG = r"^[a-z][a-z0-9_]{0,63}$"
KEPT = -1


def _reason(given: dict[str, Any]) -> str:
    """`low_`, `high_` or `odd_` and the name of the column as a slug."""
    side = "low" if given["most"] is None else "high" if given["least"] is None else "odd"
    return f"{side}_{re.sub('[^a-z0-9]+', '_', given['column'].lower()).strip('_')}"[:64]


class Rule(Config):
    """The range that a column must be in. The ends belong to it: `most: 0` lets 0 pass."""

    model_config = ConfigDict(allow_inf_nan=False)

    column: str = Field(min_length=1, description="of the scores; where there are several scorers `<score>.<column>`")
    least: float | None = Field(default=None, description="smaller values are refused")
    most: float | None = Field(default=None, description="greater values are refused")
    reason: str = Field(default_factory=_reason, pattern=SLUG, description="what refused rows are counted under")

    @model_validator(mode="after")
    def _valid(self) -> "Rule":
        if self.least is None and self.most is None:
            raise ValueError(f"a rule on {self.column} needs `least` or `most`")
        if self.least is not None and self.most is not None and self.least > self.most:
            raise ValueError(f"a rule on {self.column} lets nothing pass: least {self.least} > most {self.most}")
        return self


@dataclass(frozen=True)
class Verdicts:
    """The first rule that each row breaks.

    rule: its number, or KEPT
    reason: what the row is refused for, "" if kept; where the score is missing, the reason why
    detail: the value and the end of the range it is beyond, "" if kept
    """

    rule: Int16[np.ndarray, " n"]
    reason: pa.LargeStringArray
    detail: pa.LargeStringArray


@dataclass(frozen=True)
class Yield:
    """Rows before and after one step of a decision; `step` is the reason that its rows are refused for."""

    step: str
    before: int
    after: int


def apply_rules(columns: pa.Table, rules: Sequence[Rule]) -> Verdicts:
    """The first rule that each row breaks. A missing value breaks every rule on its column, and so does NaN.

    The ends are rounded to the type of the column: a float32 of 0.7 is not below a `least` of 0.7. Time and memory
    grow with the rows. Raises ConfigError on a column that is not there or holds no numbers.
    """
    found = np.full(columns.num_rows, KEPT, np.int16)
    for number, rule in enumerate(rules):
        found[(found == KEPT) & ~_passes(numbers(columns, rule.column), rule)] = number
    reason = detail = texts(columns.num_rows)
    for number, rule in enumerate(rules):
        mask = pa.array(found == number)
        why, how = _explained(columns.filter(mask), rule)
        reason, detail = pc.replace_with_mask(reason, mask, why), pc.replace_with_mask(detail, mask, how)
    return Verdicts(found, reason, detail)


def yield_table(rules: Sequence[Rule], verdicts: Verdicts) -> list[Yield]:
    """Rows before and after each rule, in order."""
    steps, before = [], len(verdicts.rule)
    for number, rule in enumerate(rules):
        after = before - int((verdicts.rule == number).sum())
        steps.append(Yield(rule.reason, before, after))
        before = after
    return steps


def _passes(values: pa.Array, rule: Rule) -> Bool[np.ndarray, " n"]:
    # Asked as "is it inside", which neither NaN nor a missing value is.
    inside = np.ones(len(values), bool)
    for end, holds in ((rule.least, pc.greater_equal), (rule.most, pc.less_equal)):
        if end is not None:
            inside &= _true(holds(values, pa.scalar(end, values.type)))
    return inside


def _explained(rows: pa.Table, rule: Rule) -> tuple[pa.LargeStringArray, pa.LargeStringArray]:
    """Reason and detail of rows that break a rule."""
    values = numbers(rows, rule.column)
    reason = pc.if_else(pc.is_valid(values), rule.reason, why_unscored(rows, rule.column))
    enough = _passes(values, rule.model_copy(update={"most": None}))
    beyond = pc.if_else(pa.array(enough), f"> {_plain(rule.most)}", f"< {_plain(rule.least)}")
    beyond = pc.if_else(pc.is_nan(values), "is not a number", beyond)
    detail = pc.fill_null(joined(rule.column, values, beyond), f"{rule.column} is missing")
    return reason.cast(pa.large_string()), detail


def _true(mask: pa.BooleanArray) -> Bool[np.ndarray, " n"]:
    return pc.fill_null(mask, False).to_numpy(zero_copy_only=False)


def _plain(end: float | None) -> str:
    return "" if end is None else f"{end:.12g}"
