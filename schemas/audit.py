"""AUDIT: what the judge of some pairs is worth, one row a figure, and `audit.json` beside it; of stage `audit`."""

from typing import Literal

import pyarrow as pa
from pydantic import AliasChoices, BaseModel, ConfigDict, Field

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False, metadata={"is": "hash of name and group"}),
        pa.field("name", pa.string(), nullable=False, metadata={"is": "what was measured"}),
        pa.field("group", pa.string(), nullable=False, metadata={"is": "of which probe, question, source or host"}),
        pa.field("n", pa.int64(), nullable=False, metadata={"is": "pairs, images or probes that it was measured on"}),
        pa.field("value", pa.float64(), nullable=False),
        pa.field("low", pa.float64(), nullable=False, metadata={"is": "lower end of the 95 % interval"}),
        pa.field("high", pa.float64(), nullable=False, metadata={"is": "upper end"}),
        pa.field("bound", pa.float64(), metadata={"is": "what was asked of it; null: nothing"}),
        pa.field("passed", pa.bool_(), metadata={"is": "null: nothing was asked of it"}),
    ]
)

Shown = Literal["widest", "narrowest", "disagreement"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Figure(_Part):
    """One measurement with its 95 % interval, and what a recipe asked of it."""

    name: str
    group: str = ""
    n: int
    value: float
    low: float
    high: float
    setting: str = Field(default="", description="the bound's key; empty: none")
    bound: float | None = None
    passed: bool | None = None

    @property
    def label(self) -> str:
        """Name and group."""
        return f"{self.name} {self.group}".strip()


class Missing(_Part):
    """A bound on what could not be measured."""

    setting: str
    what: str
    fix: str = Field(validation_alias=AliasChoices("fix", "mend"))  # so in audits of revision 1


class Example(_Part):
    """A pair to look at."""

    shown: Shown
    shard: int
    pair_id: str
    caption: str
    winner_id: str
    loser_id: str
    winner_generator: str
    loser_generator: str
    margin: float
    others: dict[str, str] = Field(description="winner, loser or tie, by who else has looked at the pair")


class Audit(_Part):
    """`audit.json`."""

    pairs: int
    tie: float = Field(description="scores that differ by no more are equal")
    judge: str = Field(description="kind of the verdict that makes its scores")
    second: str | None = Field(description="that of the second judge; None: there is none")
    raters: list[str] = Field(description="people who labelled pairs")
    figures: list[Figure]
    missing: list[Missing]
    examples: list[Example]

    @property
    def failed(self) -> list[Figure]:
        """Figures that do not keep their bound."""
        return [one for one in self.figures if one.passed is False]

    @property
    def bounded(self) -> bool:
        """Whether anything was asked of the judge."""
        return bool(self.missing) or any(one.passed is not None for one in self.figures)

    @property
    def vouched(self) -> bool:
        """Whether all that was asked was measured and holds, and something was asked."""
        return self.bounded and not self.failed and not self.missing
