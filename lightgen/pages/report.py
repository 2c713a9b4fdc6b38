"""`report.html`: one page that says what was measured, shows it, and tells where everything came from."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

from markupsafe import Markup

from lightgen.operations.lineage import Step
from lightgen.pages.charts import Whisker, whisker_chart
from lightgen.pages.html import render
from schemas.ref import ArtifactRef
from schemas.report import TASKS, Difference, ModelScores, PublishedRow, PublishedTable, Report

LABELS = {
    "single_object": "single object",
    "two_object": "two objects",
    "counting": "counting",
    "colors": "colours",
    "position": "position",
    "color_attr": "colour attribution",
}
# Models keep their colour through the page: teacher and untrained are grey, trained ones are told apart.
TRAINED_TONES = ("c0", "c1", "c2", "c4", "c5")


STRICT = (
    "A thing counts where its outline covers that much of the ideal one (intersection over union), and this asks for "
    "nearly all: what is lost here is mostly lost at the edges."
)
LOOSE = (
    "The same pictures and the same detections, judged once more: a thing counts from this overlap on. This asks what "
    "is where, how many there are and of which colour, and forgives soft edges."
)


@dataclass(frozen=True)
class Shot:
    """One judged image on the page."""

    uri: str
    correct: bool
    reason: str


@dataclass(frozen=True)
class Exhibit:
    """One prompt and what each model made of it; None where a model drew nothing."""

    prompt_id: str
    caption: str
    shots: dict[str, Shot | None]

    @property
    def verdicts(self) -> str:
        """What the search box finds it by, beside what can be read: `dpo right`, or `dpo wrong` and why."""
        said = {name: shot for name, shot in self.shots.items() if shot}
        return "; ".join(f"{name} {'right' if one.correct else f'wrong {one.reason}'}" for name, one in said.items())


@dataclass(frozen=True)
class Page:
    """Everything the page shows."""

    report: Report
    ref: ArtifactRef
    exhibits: dict[str, list[Exhibit]]
    charts: list[Markup] = field(default_factory=list)
    best_of: list[Markup] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    usd_per_hour: float = 0.0
    published: list[PublishedTable] = field(default_factory=list)


def report_page(page: Page) -> str:
    """The page as one file."""
    report = page.report
    seconds = sum(step.seconds for step in page.steps)
    return render(
        "report.html",
        title=f"Evaluation {page.ref.version[:12]}",
        page=page,
        report=report,
        labels={task: LABELS.get(task, task) for task in shown_tasks(report)},
        tones=tones(report),
        headline=headline(report),
        published=[(table, _printed_tasks(table), _families(table)) for table in page.published],
        panels=panels(report),
        seconds=seconds,
        longest=max((step.seconds for step in page.steps), default=0.0),
    )


@dataclass(frozen=True)
class Panel:
    """Scores of all models by one verdict, and what training changed by it."""

    title: str
    meaning: str
    models: list[ModelScores]
    findings: list[str]
    charts: list[Markup]


def panels(report: Report) -> list[Panel]:
    """The verdict of the report, then the same scores at its other gates."""
    main = Panel(gate_name(report.sure), _meaning(report), report.models, report.findings,
                 _difference_charts(report, report.differences))  # fmt: skip
    others = [
        Panel(gate_name(gate.sure), LOOSE, gate.models, gate.findings, _difference_charts(report, gate.differences))
        for gate in report.gates
    ]
    return [main, *others]


def gate_name(sure: float | None) -> str:
    """What a table of scores is called: after the overlap it asks for, where it asks for one."""
    return "Scores" if sure is None else f"Scores at overlap {sure:.2f}"


def _meaning(report: Report) -> str:
    return STRICT if report.gates and report.sure and report.sure > max(gate.sure for gate in report.gates) else ""


def shown_tasks(report: Report) -> list[str]:
    """Tasks with prompts, in GenEval's order."""
    return [task for task in dict.fromkeys([*TASKS, *report.prompts]) if report.prompts.get(task)]


def _printed_tasks(table: PublishedTable) -> dict[str, str]:
    """Labels of the tasks that a published table has, in GenEval's order."""
    there = {task for row in table.rows for task in row.tasks}
    return {task: LABELS.get(task, task) for task in sorted(there, key=[*TASKS, *sorted(there)].index)}


def _families(table: PublishedTable) -> list[tuple[str, list[PublishedRow]]]:
    """The rows of a published table under the groups that it has, in its order."""
    return [(family, list(rows)) for family, rows in groupby(table.rows, key=lambda row: row.family)]


def tones(report: Report) -> dict[str, str]:
    """A colour class for each model."""
    trained = iter(TRAINED_TONES * len(report.models))
    return {model.name: next(trained) if model.checkpoint else "c3" for model in report.models}


def best_student(report: Report) -> ModelScores | None:
    """The first model with a checkpoint, unless another is better beyond chance."""
    trained = [model for model in report.models if model.checkpoint]
    sure = {one.name for one in report.differences if one.sure and one.overall.mean > 0}
    better = [model for model in trained if model.name in sure]
    return max(better or trained[:1], key=lambda model: model.overall.mean, default=None)


def headline(report: Report) -> str:
    """The most important figure, as a sentence."""
    best = best_student(report)
    if best is None:
        return "No trained student was judged."
    sentence = f"The student, {best.name}, gets {best.overall.mean:.0%} of the test right overall"
    others = [f"{model.name} {model.overall.mean:.0%}" for model in report.models if not model.checkpoint]
    return sentence + (f"; for comparison: {', '.join(others)}." if others else ".")


def _difference_charts(report: Report, differences: Sequence[Difference]) -> list[Markup]:
    """One chart a model, all on the same scale."""
    shown, tone = shown_tasks(report), tones(report)
    charts = []
    values = [value for one in differences for value in (one.overall, *one.tasks.values())]
    reach = max((abs(end) for value in values for end in (value.low, value.high)), default=0.0)
    for one in differences:
        named = [("overall", one.overall)] + [
            (LABELS.get(task, task), one.tasks[task]) for task in shown if task in one.tasks
        ]
        rows = [Whisker(name, value.mean, value.low, value.high, tone[one.name]) for name, value in named]
        charts.append(whisker_chart(f"{one.name} minus {one.baseline}", rows, reach))
    return charts
