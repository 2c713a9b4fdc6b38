"""Narrow columns derived from what a scorer saw: GenEval's verdict of detections, what a judge's answers come to.

What a derivation is set to is no part of a score: another gate or another mean is a decision of seconds, and neither
an image nor a model is opened again.
"""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions when it is imported, where pyright does not see them.

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from typing import Annotated, Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from lightgen.config import Config
from lightgen.decisions.columns import UNSCORED, column, numbers, why_unscored
from lightgen.errors import SchemaMismatch
from lightgen.evaluation.detections import read_detections
from lightgen.evaluation.geneval import (
    COUNTING_THRESHOLD,
    Detected,
    Metadata,
    judge_image,
    scene_meaning,
    share_met,
)
from lightgen.vlm.packs import STANDARD

Meaning = Callable[[str], Metadata | None]
Mean = Literal["arithmetic", "geometric"]
LEAST = 1e-6  # of a probability in a geometric mean: one answer alone does not make it nothing
NO_MEANING = "not_a_geneval_prompt"
NO_QUESTIONS = "no_questions"

GENEVAL = pa.schema(
    [
        pa.field("task", pa.string(), metadata={"is": "GenEval's task, of the caption"}),
        pa.field("correct", pa.bool_(), metadata={"is": "whether the image shows all that the caption asks for"}),
        pa.field("share", pa.float32(), metadata={"is": "how much of it the image shows", "range": "0 to 1"}),
        pa.field("why", pa.string(), metadata={"is": "what is missing or too much; empty if correct"}),
        pa.field(UNSCORED, pa.string(), nullable=False, metadata={"is": "why there is no verdict; empty if there is"}),
    ]
)
QUESTIONS = pa.schema(
    [
        pa.field(
            "arithmetic", pa.float32(), metadata={"is": "mean probability of the right answers", "range": "0 to 1"}
        ),
        pa.field("geometric", pa.float32(), metadata={"is": "their geometric mean", "range": "0 to 1"}),
        pa.field("share", pa.float32(), metadata={"is": "the one of both that is asked for", "range": "0 to 1"}),
        pa.field("questions", pa.int32(), metadata={"is": "how many were asked"}),
        pa.field("correct", pa.bool_(), metadata={"is": "whether every right answer is likely enough"}),
        pa.field("why", pa.string(), metadata={"is": "questions whose right answer is not; empty if correct"}),
        GENEVAL.field(UNSCORED),
    ]
)
ANSWERS = pa.schema([pa.field("mean", pa.float32(), metadata={"range": "0 to 1"}), GENEVAL.field(UNSCORED)])


class Geneval(Config):
    """GenEval's rules over detections whose scores are a detector's confidences."""

    kind: Literal["geneval"] = "geneval"
    column: str = Field(default="detections", description="JSON text, see lightgen.evaluation.detections")


class Scenes(Config):
    """GenEval's rules over detections in the scene world, whose scores are overlaps of silhouettes.

    A thing with more than `sure` counts as recognised, in every task.
    """

    kind: Literal["scenes"] = "scenes"
    column: str = Field(default="detections", description="JSON text, see lightgen.evaluation.detections")
    sure: float = Field(default=0.82, gt=0, lt=1, description="least overlap (IoU) with the shape")


class Answers(Config):
    """The mean of a judge's answers."""

    kind: Literal["answers"] = "answers"
    columns: tuple[str, ...] = Field(default=STANDARD, min_length=1, description="of whole numbers from 0 to `best`")
    best: int = Field(default=10, gt=0, description="the best answer to each question")


class Probabilities(Config):
    """What a judge makes of questions, each asked and denied: how likely yes is in the mean of both ways to ask.

    For each question q there is q, q_split (how far both ways are apart, 0 to 1), and `mean` over all or some of them.
    """

    kind: Literal["probabilities"] = "probabilities"
    questions: tuple[str, ...] = Field(default=STANDARD, min_length=1, description="of columns <q>_asked, <q>_denied")
    over: tuple[str, ...] | None = Field(default=None, min_length=1, description="questions of the mean; null: all")
    mean: Mean = Field(default="arithmetic", description="geometric: one bad answer spoils it")

    @model_validator(mode="after")
    def _named(self) -> "Probabilities":
        unknown = sorted(set(self.over or ()) - set(self.questions))
        if unknown:
            raise ValueError(f"over names {', '.join(unknown)}; the questions are {', '.join(self.questions)}")
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        """The raw columns that are read."""
        return tuple(f"{name}_{way}" for name in self.questions for way in ("asked", "denied"))


class Questions(Config):
    """What a judge makes of the questions of each caption: the mean probability of their right answers."""

    kind: Literal["questions"] = "questions"
    column: str = Field(default="answers", description="JSON list of objects with question and p")
    mean: Mean = Field(default="arithmetic", description="what `share` is; both are there")
    sure: float = Field(default=0.5, gt=0, lt=1, description="least probability of every right answer of a right image")


AnyDerive = Geneval | Scenes | Answers | Probabilities | Questions
DeriveConfig = Annotated[AnyDerive, Field(discriminator="kind")]


def derive(raw: pa.Table, settings: AnyDerive, meaning: Meaning = scene_meaning) -> pa.Table:
    """The derived columns of one scorer's rows, in their order: GENEVAL, ANSWERS, QUESTIONS, or those of probabilities.

    `raw` holds `caption`, `unscored` and the raw columns; `meaning` is what a caption asks for, or None. A row without
    raw values, or without a meaning, is null and says why in `unscored`. Time grows with the rows, some 30 us each for
    detections; shards can be derived one at a time. Raises ConfigError on a column that is not there, SchemaMismatch
    on text that holds no detections.
    """
    if isinstance(settings, Answers):
        return _answers(raw, settings)
    if isinstance(settings, Probabilities):
        return _probabilities(raw, settings)
    if isinstance(settings, Questions):
        return pa.Table.from_pylist(list(_asked(raw, settings)), schema=QUESTIONS)
    rows = list(_verdicts(raw, settings, cache(meaning)))
    return pa.Table.from_pylist(rows, schema=GENEVAL)


def derived_names(settings: AnyDerive) -> list[str]:
    """Names of the derived columns, without that of why there is none."""
    if isinstance(settings, Probabilities):
        return [name for one in settings.questions for name in (one, f"{one}_split")] + ["mean"]
    schema = {"answers": ANSWERS, "questions": QUESTIONS}.get(settings.kind, GENEVAL)
    return [name for name in schema.names if name != UNSCORED]


def with_derived(raw: pa.Table, derived: pa.Table) -> pa.Table:
    """Raw and derived columns side by side; raw ones stay where both have a name."""
    for name in derived.column_names:
        if name not in raw.column_names:
            raw = raw.append_column(name, derived[name])
    return raw


def _answers(raw: pa.Table, settings: Answers) -> pa.Table:
    answers = [numbers(raw, name) for name in settings.columns]
    total = answers[0]
    for answer in answers[1:]:
        total = pc.add(total, answer)
    mean = pc.divide(total, float(settings.best * len(answers))).cast(pa.float32())
    unscored = pc.if_else(pc.is_valid(mean), "", why_unscored(raw, settings.columns[0]))
    return pa.table([mean, unscored], schema=ANSWERS)


def _probabilities(raw: pa.Table, settings: Probabilities) -> pa.Table:
    columns: dict[str, pa.Array] = {}
    for name in settings.questions:
        asked, denied = (numbers(raw, f"{name}_{way}").cast(pa.float64()) for way in ("asked", "denied"))
        against = pc.subtract(1.0, denied)
        columns[name] = pc.divide(pc.add(asked, against), 2.0)
        columns[f"{name}_split"] = pc.abs(pc.subtract(asked, against))
    columns["mean"] = _mean([columns[name] for name in settings.over or settings.questions], settings.mean)
    valid = pc.is_valid(columns["mean"])
    for name in settings.questions:
        valid = pc.and_(valid, pc.is_valid(columns[name]))
    unscored = pc.if_else(valid, "", why_unscored(raw, settings.columns[0]))
    names = [*columns, UNSCORED]
    return pa.table([*(one.cast(pa.float32()) for one in columns.values()), unscored], names=names)


def _mean(values: list[pa.Array], mean: Mean) -> pa.Array:
    terms = [pc.ln(pc.max_element_wise(one, LEAST, skip_nulls=False)) if mean == "geometric" else one for one in values]
    total = terms[0]
    for one in terms[1:]:
        total = pc.add(total, one)
    whole = pc.divide(total, float(len(terms)))
    return pc.exp(whole) if mean == "geometric" else whole


def _asked(raw: pa.Table, settings: Questions) -> Iterator[dict[str, Any]]:
    given = zip(column(raw, settings.column).to_pylist(), why_unscored(raw, settings.column).to_pylist(), strict=True)
    for number, (text, why) in enumerate(given):
        if text is None:
            yield {UNSCORED: why}
            continue
        said = _told(text, settings, number)
        ps = [p for _, p in said]
        means = {
            "arithmetic": sum(ps) / len(ps), "geometric": math.exp(sum(math.log(max(p, LEAST)) for p in ps) / len(ps)),
        }  # fmt: skip
        wrong = [question for question, p in said if p < settings.sure]
        yield {
            **means, "share": means[settings.mean], "questions": len(ps), "correct": not wrong,
            "why": "; ".join(wrong), UNSCORED: "",
        }  # fmt: skip


def _told(text: str, settings: Questions, row: int) -> list[tuple[str, float]]:
    """Questions with the probability of their right answers. Raises SchemaMismatch."""
    try:
        found = [(str(one["question"]), float(one["p"])) for one in json.loads(text)]
        if found and all(0 <= p <= 1 for _, p in found):
            return found
        raise ValueError("no question, or a probability beyond 0 to 1")
    except (ValueError, TypeError, KeyError) as error:
        raise SchemaMismatch(f"column {settings.column}, row {row}: not a list of answers: {error}") from None


def _verdicts(raw: pa.Table, settings: Geneval | Scenes, meaning: Meaning) -> Iterator[dict[str, Any]]:
    given = zip(
        column(raw, settings.column).to_pylist(),
        column(raw, "caption").to_pylist(),
        why_unscored(raw, settings.column).to_pylist(),
        strict=True,
    )
    for number, (text, caption, why) in enumerate(given):
        asked = meaning(caption)
        if text is None or asked is None:
            yield {UNSCORED: why if text is None else NO_MEANING}
            continue
        verdict = judge_image(_detected(text, settings, number), asked)
        share = share_met(verdict, asked)
        yield {"task": asked.tag, "correct": verdict.correct, "share": share, "why": verdict.reason, UNSCORED: ""}


def _detected(text: str, settings: Geneval | Scenes, row: int) -> list[Detected]:
    try:
        found = read_detections(text)
    except ValueError as error:
        raise SchemaMismatch(f"column {settings.column}, row {row}: not a list of detections: {error}") from None
    return [gated(box, settings.sure) for box in found] if isinstance(settings, Scenes) else found


def gated(box: Detected, sure: float) -> Detected:
    """The detection with GenEval's strictest confidence or more where its overlap is above `sure`, else with 0."""
    above = COUNTING_THRESHOLD + (1 - COUNTING_THRESHOLD) * (box.score - sure)
    return replace(box, score=above if box.score > sure else 0.0)
