"""The scores of a report as a table of texts, and what others printed as another."""

from lightgen.pages.report import LABELS, shown_tasks
from schemas.report import TASKS, Interval, PublishedTable, Report


def score_table(report: Report) -> list[list[str]]:
    """A head, and a line for each model: its share of right images overall and by task, with intervals."""
    tasks = shown_tasks(report)
    head = ["model", "overall", *(LABELS.get(task, task) for task in tasks)]
    return [head, *([one.name, *map(_spelled, (one.overall, *map(one.tasks.get, tasks)))] for one in report.models)]


def published_title(table: PublishedTable) -> str:
    """Says that nothing of it was run here."""
    return f"Published, not run: {table.name}, {table.title} ({table.source})"


def published_lines(table: PublishedTable) -> list[list[str]]:
    """A head, and a line for each model of a published table, in its order."""
    there = {task for row in table.rows for task in row.tasks}
    tasks = [task for task in TASKS if task in there]
    rows = [[row.model, f"{row.overall:.2f}", *(_printed(row.tasks.get(task)) for task in tasks)] for row in table.rows]
    return [["model", "overall", *(LABELS.get(task, task) for task in tasks)], *rows]


def _printed(score: float | None) -> str:
    return "-" if score is None else f"{score:.2f}"


def _spelled(interval: Interval | None) -> str:
    return f"{interval.mean:.2f} ({interval.low:.2f}–{interval.high:.2f})" if interval else "-"
