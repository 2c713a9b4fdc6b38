"""The page and the contact sheet of a REPORT version, rendered from its rows and the images that were judged."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from lightgen.generators.restore import checkpoint_config
from lightgen.operations.lineage import ancestors, roles, steps
from lightgen.pages.best_of import best_of_charts
from lightgen.pages.contact import Cell, Column, contact_sheet
from lightgen.pages.curves import checkpoint_charts
from lightgen.pages.html import picture
from lightgen.pages.report import Exhibit, Page, Shot, report_page, tones
from lightgen.storage.pixels import BadImage, decode_over_checks
from lightgen.storage.store import Store
from lightgen.storage.version import Version
from schemas.report import TASKS, Published, PublishedTable, Report

PUBLISHED = "published.json"
SHOT_PX, GRID_COLUMNS, EXHIBITS = 128, 8, 6
Row = dict[str, Any]


@dataclass(frozen=True)
class Display:
    """One prompt that is shown, with pixels and verdict of each model that drew it."""

    task: str
    prompt_id: str
    caption: str
    drawn: dict[str, tuple[np.ndarray, Row] | None]


def read_report(version: Version) -> Report:
    """The figures of a REPORT version."""
    return Report.model_validate_json(version.file("report.json").read_bytes())


def read_published(version: Version) -> list[PublishedTable]:
    """What others printed, where the recipe of a REPORT asked for it."""
    if PUBLISHED not in version.file_names:
        return []
    return Published.model_validate_json(version.file(PUBLISHED).read_bytes()).tables


def report_html(version: Version, store: Store, each: int = EXHIBITS, usd_per_hour: float = 0.0) -> str:
    """One self-contained page: scores, differences, `each` prompts of every task, curves, and where all came from."""
    report, displays = read_report(version), _displays(version, store, each)
    versions, names = ancestors([version.ref], store), roles(store)
    charts = _charts(report, versions, names)
    best = best_of_charts(version, tones(report))
    published = read_published(version)
    page = Page(report, version.ref, _exhibits(displays), charts, best, steps(versions, names), usd_per_hour, published)
    return report_page(page)


def report_grid(version: Version, store: Store, each: int = EXHIBITS) -> bytes:
    """A PNG of at most some 300 kB: prompts across, models down, each picture with its verdict."""
    models = [model.name for model in read_report(version).models]
    return contact_sheet(_columns(_displays(version, store, each)), models)


def _displays(version: Version, store: Store, each: int) -> list[Display]:
    """Image 0 of the first `each` prompts of every task, not chosen by result."""
    rows = [row for row in version.table().to_pylist() if row["index"] == 0]
    names = list(dict.fromkeys(row["model"] for row in rows))
    # The scores of the verdicts come first, then others.
    judged = [ref for ref in version.parents if ref.kind == "scores"][: len(names)]
    images = [store.open(store.open(ref).parent("images")) for ref in judged]
    found = {(row["model"], row["prompt_id"]): row for row in rows}
    drawn_by = dict(zip(names, images, strict=True))
    return [
        Display(
            first["task"],
            first["prompt_id"],
            first["caption"],
            {n: _drawn(drawn_by[n], found.get((n, first["prompt_id"]))) for n in names},
        )
        for first in _first_of_each_task([row for row in rows if row["model"] == names[0]], each)
    ]


def _first_of_each_task(rows: Sequence[Row], each: int) -> list[Row]:
    seen: dict[str, int] = {}
    shown = []
    for row in rows:
        seen[row["task"]] = seen.get(row["task"], 0) + 1
        if seen[row["task"]] <= each:
            shown.append(row)
    return shown


def _drawn(images: Version, row: Row | None) -> tuple[np.ndarray, Row] | None:
    if row is None or row["image_id"] is None or images.evicted:
        return None
    pixels = decode_over_checks(images.member(row["image_id"], str(images.plan.config["format"])))
    return None if isinstance(pixels, BadImage) else (pixels, row)


def _exhibits(displays: Sequence[Display]) -> dict[str, list[Exhibit]]:
    exhibits: dict[str, list[Exhibit]] = {task: [] for task in TASKS}
    for display in displays:
        shots = {name: drawn and _shot(*drawn) for name, drawn in display.drawn.items()}
        exhibits.setdefault(display.task, []).append(Exhibit(display.prompt_id, display.caption, shots))
    return {task: shown for task, shown in exhibits.items() if shown}


def _shot(pixels: np.ndarray, row: Row) -> Shot:
    return Shot(picture(pixels, SHOT_PX), row["correct"], row["reason"])


def _columns(displays: Sequence[Display]) -> list[Column]:
    """The first prompt of every task, then the second ones while there is room."""
    by_task: dict[str, list[Display]] = {}
    for display in displays:
        by_task.setdefault(display.task, []).append(display)
    order = [shown[turn] for turn in range(len(displays)) for shown in by_task.values() if turn < len(shown)]
    return [
        Column(one.caption, {name: drawn and Cell(drawn[0], drawn[1]["correct"]) for name, drawn in one.drawn.items()})
        for one in order[:GRID_COLUMNS]
    ]


def _charts(report: Report, versions: Sequence[Version], names: dict[str, str]) -> list[Markup]:
    """Curves of every checkpoint in the lineage, in the colour of the model that it is in the report."""
    tone, judged = tones(report), {model.checkpoint: model.name for model in report.models if model.checkpoint}
    charts: list[Markup] = []
    for version in versions:
        if version.ref.kind == "checkpoint":
            name = judged.get(version.ref.content)
            plain = names.get(version.ref.version) or f"{version.plan.stage}, {checkpoint_config(version).size_px} px"
            charts += checkpoint_charts(name or plain, version, tone[name] if name else "c3")
    return charts
