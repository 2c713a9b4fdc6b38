"""The scores of a report as a table of texts."""

from lightgen.pages.report import LABELS, shown_tasks
from schemas.report import Interval, Report


def score_table(report: Report) -> list[list[str]]:
    """A head, and a line for each model: its share of right images overall and by task, with intervals."""
    tasks = shown_tasks(report)
    head = ["model", "overall", *(LABELS.get(task, task) for task in tasks)]
    return [head, *([one.name, *map(_spelled, (one.overall, *map(one.tasks.get, tasks)))] for one in report.models)]


def _spelled(interval: Interval | None) -> str:
    return f"{interval.mean:.2f} ({interval.low:.2f}–{interval.high:.2f})" if interval else "-"
