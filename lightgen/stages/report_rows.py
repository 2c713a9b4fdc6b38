"""The part of stage `evaluate` that makes its rows: what was asked, and a verdict for each image that was asked for."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lightgen.decisions.derive import NO_MEANING, NO_QUESTIONS, Geneval, Meaning, Questions, Scenes, derive
from lightgen.evaluation.scoring import NOT_DRAWN, NOT_SCORED
from lightgen.evaluation.statistics import score_intervals
from lightgen.seeds import content_id
from lightgen.storage.shards import Reject
from lightgen.storage.version import Version

NO_IMAGE = "no image could be drawn"
QUESTIONS_TASK = "questions"
AnyVerdict = Scenes | Geneval | Questions
Row = dict[str, Any]
Asked = tuple[str, str, str]  # id, caption and task of a prompt
Task = Callable[[str], str | None]


@dataclass(frozen=True)
class Judging:
    """How images are judged: by which verdict, what captions mean, and how many images of a prompt were asked for."""

    verdict: AnyVerdict
    meaning: Meaning
    samples: int


def asked_of(prompts: Version, scores: Sequence[Version], judging: Judging) -> tuple[list[Asked], list[Reject]]:
    """Id, caption and task of the prompts that can be judged, and the others as rejects."""
    questions = isinstance(judging.verdict, Questions)
    task = _with_questions(scores) if questions else _tag(judging.meaning)
    rows = prompts.table(columns=["id", "caption"]).to_pylist()
    asked = [(row["id"], row["caption"], found) for row in rows if (found := task(row["caption"]))]
    known = {id for id, _, _ in asked}
    reason, detail = NO_MEANING, "no scene caption, and not in the metadata"
    if questions:
        reason, detail = NO_QUESTIONS, "the file has no questions for it, or nobody drew it"
    return asked, [Reject(row["id"], reason, detail, row) for row in rows if row["id"] not in known]


def verdict_rows(name: str, scores: Version, asked: Sequence[Asked], judging: Judging) -> Iterator[Row]:
    """One row for each image that a model was asked for: what it did not draw, or nobody could score, is wrong."""
    drawn = _drawn(scores, judging)
    for prompt, caption, task in asked:
        for index in range(judging.samples):
            image, row = drawn.get((prompt, index), (None, None))
            verdict = _verdict(row)
            yield {
                "id": content_id("report", name, prompt, index),
                "model": name,
                "task": task,
                "prompt_id": prompt,
                "caption": caption,
                "index": index,
                "image_id": image,
                **verdict,
            }


def means_file(scores: Mapping[str, Version], asked: Sequence[Asked], judging: Judging) -> bytes:
    """Mean probability of the right answers, arithmetic and geometric, with intervals over prompts; 0 without image."""
    found: dict[str, dict[str, Any]] = {}
    for name, version in scores.items():
        drawn = _drawn(version, judging)
        found[name] = {}
        for mean in ("arithmetic", "geometric"):
            marks = {
                prompt: [_value(drawn.get((prompt, index)), mean) for index in range(judging.samples)]
                for prompt, _, _ in asked
            }
            intervals = score_intervals({mean: marks}) if marks else {}
            found[name] |= {mean: vars(intervals[mean])} if intervals else {}
    return json.dumps(found, indent=1).encode()


def _tag(meaning: Meaning) -> Task:
    """GenEval's task of a caption."""

    def task(caption: str) -> str | None:
        found = meaning(caption)
        return found.tag if found else None

    return task


def _with_questions(scores: Sequence[Version]) -> Task:
    """One task of all captions that the judge had questions for."""
    known: set[str] = set()
    for version in scores:
        table = version.table()
        pairs = zip(table["caption"].to_pylist(), table["unscored"].to_pylist(), strict=True)
        known |= {caption for caption, why in pairs if why != NO_QUESTIONS}
    return lambda caption: QUESTIONS_TASK if caption in known else None


def _value(found: tuple[str, Row] | None, mean: str) -> float:
    return (found[1][mean] or 0.0) if found else 0.0


def _drawn(scores: Version, judging: Judging) -> dict[tuple[str, int], tuple[str, Row]]:
    """Image and derived row by prompt and index."""
    raw = scores.table()
    derived = derive(raw, judging.verdict, judging.meaning).to_pylist()
    keys = zip(raw["prompt_id"].to_pylist(), raw["index"].to_pylist(), raw["id"].to_pylist(), strict=True)
    return {(prompt, index): (id, row) for (prompt, index, id), row in zip(keys, derived, strict=True)}


def _verdict(row: Row | None) -> Row:
    if row is None:
        return {"correct": False, "reason": NO_IMAGE, "failed": NOT_DRAWN}
    if row["unscored"]:
        return {"correct": False, "reason": row["unscored"], "failed": NOT_SCORED}
    return {"correct": row["correct"], "reason": row["why"], "failed": ""}
