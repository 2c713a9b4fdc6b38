"""The last words of the demo: scores of every model, what each stage took, and where the report lies."""

from collections.abc import Sequence

from lightgen.operations.lineage import ancestors, roles, steps
from lightgen.pages.evaluation import read_published, read_report
from lightgen.pages.gallery import write_page
from lightgen.pages.report import Panel, best_student, panels, shown_tasks
from lightgen.pages.scores import published_lines, published_title
from lightgen.progress import duration
from lightgen.storage.store import Store, open_store
from schemas.ref import ArtifactRef
from schemas.report import Likeness, ModelScores, PublishedTable, Report


def summary(ref: ArtifactRef) -> str:
    """Plain text, for a terminal; writes the page of the report beside the store's versions."""
    store = open_store(ref.uri)
    version = store.open(ref)
    report = read_report(version)
    return "\n\n".join(
        [
            "",
            _stages(ref, store),
            *(_panel(panel, report) for panel in panels(report)),
            *([_likeness(report.likeness)] if report.likeness else []),
            *map(_published, read_published(version)),
            f"Report:   {write_page(version, store).resolve()}\n"
            f"Look:     lightgen gallery images@train --store {ref.uri}\n"
            f"Draw:     lightgen generate checkpoint@{_best(report, store)} 'two red circles' --store {ref.uri}",
        ]
    )


def _best(report: Report, store: Store) -> str:
    """The name of the best student: its role, where a run gave it one."""
    best = best_student(report)
    if best is None or best.checkpoint is None:
        return "latest"
    version = store.with_content("checkpoint", best.checkpoint).ref.version
    return roles(store).get(version) or version[:12]


def _stages(ref: ArtifactRef, store: Store) -> str:
    lines = [("stage", "rows in", "rows out", "rejected", "size", "took", "version")]
    for one in steps(ancestors([ref], store), roles(store)):
        name = f"{one.stage} {one.label}".strip()
        size = f"{one.bytes_total / 1e6:,.2f} MB"
        counts = (f"{one.rows_in:,}", f"{one.rows_out:,}", f"{one.rejected:,}")
        lines.append((name, *counts, size, duration(one.seconds), str(one.ref)))
    return _table(lines)


def _panel(panel: Panel, report: Report) -> str:
    """Scores by one verdict, and what training changed by it."""
    tasks = shown_tasks(report)
    lines = [("model", "overall", f"{report.confidence:.0%} interval", *(task.replace("_", " ") for task in tasks))]
    lines += [_score(model, tasks) for model in panel.models]
    return "\n".join([panel.title, "", _table(lines), *(["", *panel.findings] if panel.findings else [])])


def _score(model: ModelScores, tasks: Sequence[str]) -> tuple[str, ...]:
    overall = model.overall
    cells = (f"{model.tasks[task].mean:.2f}" if task in model.tasks else "-" for task in tasks)
    return (model.name, f"{overall.mean:.3f}", f"{overall.low:.3f} to {overall.high:.3f}", *cells)


def _likeness(like: Likeness) -> str:
    """How like the reference each model's pictures are, and how unlike one another."""
    lines: list[tuple[str, ...]] = [("model", "Fréchet distance", "MMD", "distance of samples", "Vendi score")]
    for one in like.models:
        diversity = (f"{value.mean:.3g}" if value else "-" for value in (one.distance, one.vendi))
        lines.append((one.name, *map(_far, (one.frechet, one.mmd)), *diversity))
    lines.append((f"halves of {like.reference}", *map(_far, (like.halves.frechet, like.halves.mmd)), "", ""))
    return "\n".join([f"In the space of {like.network}", "", _table(lines)])


def _published(table: PublishedTable) -> str:
    """What others printed, under a title that says so."""
    return "\n".join([published_title(table), "", _table([tuple(line) for line in published_lines(table)])])


def _far(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _table(lines: Sequence[tuple[str, ...]]) -> str:
    """First column to the left, the others to the right, a rule below the head."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    spelled = [
        "  ".join(
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]
    return "\n".join([spelled[0], "─" * len(spelled[0]), *spelled[1:]])
