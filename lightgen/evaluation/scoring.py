"""From verdicts to figures: scores, paired differences and what they let us say."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lightgen.evaluation import statistics
from schemas.report import TASKS, Difference, Gate, Interval, ModelScores, Report

CONFIDENCE = 0.95
NOT_DRAWN, NOT_SCORED = "not_drawn", "not_scored"  # why an image of a row failed; empty where it was judged
Row = dict[str, Any]
# By task and prompt: the marks of its samples.
Marks = dict[str, dict[str, list[bool]]]


@dataclass(frozen=True)
class Bootstrap:
    """How the intervals of differences are drawn."""

    resamples: int
    seed: int


def make_report(
    rows: Mapping[str, Sequence[Row]], checkpoints: Mapping[str, str | None], verdict: str, bootstrap: Bootstrap
) -> Report:
    """The figures over the rows of each model; differences are to the first one with a checkpoint."""
    first = next(iter(rows.values()))
    prompts = Counter(row["task"] for row in first if row["index"] == 0)
    return Report(
        prompts=dict(prompts),
        samples_per_prompt=1 + max((row["index"] for row in first), default=0),
        verdict=verdict,
        confidence=CONFIDENCE,
        **_figures(rows, checkpoints, bootstrap),
    )


def at_gate(
    sure: float, rows: Mapping[str, Sequence[Row]], checkpoints: Mapping[str, str | None], bootstrap: Bootstrap
) -> Gate:
    """The figures over rows whose verdicts asked for the overlap `sure`."""
    return Gate(sure=sure, **_figures(rows, checkpoints, bootstrap))


def _figures(
    rows: Mapping[str, Sequence[Row]], checkpoints: Mapping[str, str | None], bootstrap: Bootstrap
) -> dict[str, Any]:
    """Models, differences and findings, as `Report` and `Gate` have them."""
    baseline = next((name for name in rows if checkpoints[name]), None)
    others = [name for name in rows if checkpoints[name] and name != baseline]
    base = rows[baseline] if baseline else []
    differences = [compare(name, rows[name], str(baseline), base, bootstrap) for name in others]
    prompts = len({row["prompt_id"] for row in next(iter(rows.values()))})
    return {
        "models": [model_scores(name, checkpoints[name], of_model) for name, of_model in rows.items()],
        "differences": differences,
        "findings": findings(differences, prompts),
    }


def marks_of(rows: Sequence[Row]) -> Marks:
    """Verdicts of one model, tasks in GenEval's order, then others, and prompts in stored order."""
    marks: Marks = {task: {} for task in dict.fromkeys([*TASKS, *(row["task"] for row in rows)])}
    for row in rows:
        marks[row["task"]].setdefault(row["prompt_id"], []).append(row["correct"])
    return {task: prompts for task, prompts in marks.items() if prompts}


def model_scores(name: str, checkpoint: str | None, rows: Sequence[Row]) -> ModelScores:
    """Scores of one model, and how many of its images failed: those are wrong ones."""
    counts = {
        "images": len(rows),
        "not_drawn": sum(row["failed"] == NOT_DRAWN for row in rows),
        "not_scored": sum(row["failed"] == NOT_SCORED for row in rows),
    }
    marks = marks_of(rows)
    if not marks:
        nothing = Interval(mean=0, low=0, high=0)
        return ModelScores(name=name, checkpoint=checkpoint, tasks={}, overall=nothing, **counts)
    found = statistics.score_intervals(marks)
    tasks = {task: _interval(found[task]) for task in marks}
    return ModelScores(name=name, checkpoint=checkpoint, tasks=tasks, overall=_interval(found["overall"]), **counts)


def compare(name: str, rows: Sequence[Row], baseline: str, base: Sequence[Row], bootstrap: Bootstrap) -> Difference:
    """Paired differences over the prompts that both models drew."""
    ours, theirs = _shared(marks_of(rows), marks_of(base)), _shared(marks_of(base), marks_of(rows))
    found = statistics.paired_differences(ours, theirs, bootstrap.seed, bootstrap.resamples)
    tasks = {task: _interval(found[task]) for task in ours}
    return Difference(name=name, baseline=baseline, tasks=tasks, overall=_interval(found["overall"]))


def _shared(marks: Marks, other: Marks) -> Marks:
    """`marks` of the prompts that are in `other` too."""
    both = {
        task: {prompt: of_prompt for prompt, of_prompt in prompts.items() if prompt in other.get(task, {})}
        for task, prompts in marks.items()
    }
    return {task: prompts for task, prompts in both.items() if prompts}


def _interval(found: statistics.Interval | statistics.Difference) -> Interval:
    return Interval(mean=found.value, low=found.low, high=found.high)


def findings(differences: Sequence[Difference], prompts: int) -> list[str]:
    """What each further training changed, as far as the intervals let us tell."""
    sentences = []
    for one in differences:
        what = f"overall {one.overall.mean:+.3f}, interval {one.overall.low:+.3f} to {one.overall.high:+.3f}"
        if not one.sure:
            verdict = f"no change against {one.baseline} that these {prompts:,} prompts can show"
        else:
            verdict = f"{'better' if one.overall.mean > 0 else 'worse'} than {one.baseline}, beyond chance"
        moved = [f"{task.replace('_', ' ')} {value.mean:+.3f}" for task, value in one.tasks.items() if _sure(value)]
        alone = f" Tasks whose own interval leaves out zero: {', '.join(moved)}." if moved else ""
        sentences.append(f"{one.name}: {verdict} ({what}).{alone}")
    return sentences


def _sure(interval: Interval) -> bool:
    return not interval.low <= 0 <= interval.high
