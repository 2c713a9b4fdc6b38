"""The part of stage `evaluate` that says what drawing N images and keeping the best by some scorer is worth."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import Field

from lightgen.config import RUN, Config
from lightgen.decisions.columns import numbers
from lightgen.decisions.derive import DeriveConfig, derive, derived_names, with_derived
from lightgen.evaluation.best_of import BestOfCurves, best_of_curve
from lightgen.problems import Problem
from lightgen.scorers.config import ScorerConfig
from lightgen.storage.version import Version

Row = dict[str, Any]


class BestOf(Config):
    """The score where the best of N images of a prompt is taken, for N from 1 to `most`."""

    scorer: ScorerConfig = Field(description="looks at the images of the evaluation", json_schema_extra=RUN)
    column: str = Field(min_length=1, description="of its scores, greater is better")
    derive: DeriveConfig | None = Field(default=None, description="how its raw answers become that column")
    most: int = Field(default=16, ge=2, description="the greatest N; so many images of each prompt must be drawn")

    def problems(self) -> Iterator[Problem]:
        """See `Config.problems`: a column that is not there."""
        known = [*self.scorer.ANSWERS.names, *(derived_names(self.derive) if self.derive else [])]
        if self.column not in known:
            yield Problem("recipe", "column", f"no column {self.column}", f"there are {', '.join(known)}")


def curves_file(how: BestOf, rows: Mapping[str, Sequence[Row]], scores: Mapping[str, Version]) -> bytes:
    """The curve of each model, as the bytes of a file: its verdicts `rows`, chosen by another score of its images."""
    curves = {}
    for name, version in scores.items():
        raw = version.table()
        columns = with_derived(raw, derive(raw, how.derive)) if how.derive else raw
        values = dict(zip(raw["id"].to_pylist(), numbers(columns, how.column).to_pylist(), strict=True))
        judged: dict[str, dict[str, list[tuple[float | None, float]]]] = {}
        for row in sorted(rows[name], key=lambda row: row["image_id"] or "~"):
            value = values.get(row["image_id"])
            judged.setdefault(row["task"], {}).setdefault(row["prompt_id"], []).append((value, float(row["correct"])))
        curves[name] = best_of_curve(judged, how.most)
    found = BestOfCurves(scorer=how.scorer.kind, column=how.column, curves=curves)
    return found.model_dump_json(indent=1).encode()
