"""Narrow columns derived from what a scorer saw: GenEval's verdict of detections, the mean of a judge's answers.

What a derivation is set to is no part of a score: another gate or another mean is a decision of seconds, and neither
an image nor a model is opened again.
"""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions when it is imported, where pyright does not see them.

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from typing import Annotated, Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

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

Meaning = Callable[[str], Metadata | None]
NO_MEANING = "not_a_geneval_prompt"

GENEVAL = pa.schema(
    [
        pa.field("task", pa.string(), metadata={"is": "GenEval's task, of the caption"}),
        pa.field("correct", pa.bool_(), metadata={"is": "whether the image shows all that the caption asks for"}),
        pa.field("share", pa.float32(), metadata={"is": "how much of it the image shows", "range": "0 to 1"}),
        pa.field("why", pa.string(), metadata={"is": "what is missing or too much; empty if correct"}),
        pa.field(UNSCORED, pa.string(), nullable=False, metadata={"is": "why there is no verdict; empty if there is"}),
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
    columns: tuple[str, ...] = Field(
        default=("sharpness", "artefact_free", "caption_match", "countable", "spatial_clarity"),
        min_length=1,
        description="of whole numbers from 0 to `best`",
    )
    best: int = Field(default=10, gt=0, description="the best answer to each question")


DeriveConfig = Annotated[Geneval | Scenes | Answers, Field(discriminator="kind")]


def derive(raw: pa.Table, settings: Geneval | Scenes | Answers, meaning: Meaning = scene_meaning) -> pa.Table:
    """The derived columns of one scorer's rows, in their order: GENEVAL or ANSWERS.

    `raw` holds `caption`, `unscored` and the raw columns; `meaning` is what a caption asks for, or None. A row without
    raw values, or without a meaning, is null and says why in `unscored`. Time grows with the rows, some 30 us each for
    detections; shards can be derived one at a time. Raises ConfigError on a column that is not there, SchemaMismatch
    on text that holds no detections.
    """
    if isinstance(settings, Answers):
        return _answers(raw, settings)
    rows = list(_verdicts(raw, settings, cache(meaning)))
    return pa.Table.from_pylist(rows, schema=GENEVAL)


def _answers(raw: pa.Table, settings: Answers) -> pa.Table:
    answers = [numbers(raw, name) for name in settings.columns]
    total = answers[0]
    for answer in answers[1:]:
        total = pc.add(total, answer)
    mean = pc.divide(total, float(settings.best * len(answers))).cast(pa.float32())
    unscored = pc.if_else(pc.is_valid(mean), "", why_unscored(raw, settings.columns[0]))
    return pa.table([mean, unscored], schema=ANSWERS)


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
