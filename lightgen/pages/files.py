"""The files of a REPORT version: `report.json`, `report.html` and `grid.png`, from the verdicts on every model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from lightgen.generators.restore import checkpoint_config
from lightgen.operations.lineage import ancestors, steps
from lightgen.pages.contact import Cell, Column, contact_sheet
from lightgen.pages.curves import checkpoint_charts
from lightgen.pages.html import picture
from lightgen.pages.report import Exhibit, Page, Shot, report_page, tones
from lightgen.pages.scores import CONFIDENCE, Bootstrap, compare, findings, model_scores
from lightgen.stages.exam import Exam, Judged
from lightgen.storage.store import Store
from lightgen.storage.version import Version
from schemas.ref import ArtifactRef
from schemas.report import TASKS, Report

SHOT_PX, GRID_COLUMNS = 128, 8
Models = dict[str, ArtifactRef | None]
Row = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """How the figures are made and shown."""

    version: str
    detector: str
    samples_per_prompt: int
    resamples: int
    seed: int
    usd_per_hour: float
    exhibits_per_task: int


def report_files(
    exam: Exam, judged: Sequence[Judged], models: Models, prompts: ArtifactRef, settings: Settings, store: Store
) -> dict[str, bytes]:
    """All files of the report."""
    report = make_report(exam, judged, models, settings)
    displays = _displays(exam, judged, settings.exhibits_per_task)
    versions = ancestors([prompts, *(ref for ref in models.values() if ref)], store)
    names = {ref.version: name for name, ref in models.items() if ref}
    charts = _charts(report, versions, names)
    page = Page(report, _exhibits(displays), charts, steps(versions, names), settings.usd_per_hour)
    return {
        "report.json": report.model_dump_json(indent=1).encode(),
        "report.html": report_page(page).encode(),
        "grid.png": contact_sheet(_columns(displays), [one.name for one in judged]),
    }


def make_report(exam: Exam, judged: Sequence[Judged], models: Models, settings: Settings) -> Report:
    """The figures; differences are to the first model with a checkpoint."""
    prompts: dict[str, int] = {}
    for job in exam.jobs:
        prompts[job.metadata.tag] = prompts.get(job.metadata.tag, 0) + (job.sample == 0)
    baseline = next((one for one in judged if models.get(one.name)), None)
    others = [one for one in judged if models.get(one.name) and one is not baseline]
    bootstrap = Bootstrap(settings.resamples, settings.seed)
    differences = (
        [compare(one.name, one.rows, baseline.name, baseline.rows, bootstrap) for one in others] if baseline else []
    )
    return Report(
        version=settings.version,
        prompts=prompts,
        samples_per_prompt=settings.samples_per_prompt,
        detector=settings.detector,
        confidence=CONFIDENCE,
        models=[model_scores(one.name, _version(models.get(one.name)), one.rows, bootstrap) for one in judged],
        differences=differences,
        findings=findings(differences, sum(prompts.values())),
    )


def _version(ref: ArtifactRef | None) -> str | None:
    return ref.version if ref else None


@dataclass(frozen=True)
class _Display:
    """One prompt that is shown, with pixels and verdict of each model that drew it."""

    task: str
    caption: str
    drawn: dict[str, tuple[np.ndarray, Row] | None]


def _displays(exam: Exam, judged: Sequence[Judged], each: int) -> list[_Display]:
    verdicts = {(row["model"], row["prompt_id"]): row for one in judged for row in one.rows if row["sample"] == 0}
    displays = []
    for job in exam.shown(each):
        drawn: dict[str, tuple[np.ndarray, Row] | None] = {}
        for one in judged:
            pixels, row = one.shots.get(job.prompt_id), verdicts.get((one.name, job.prompt_id))
            drawn[one.name] = None if pixels is None or row is None else (pixels, row)
        displays.append(_Display(job.metadata.tag, job.caption, drawn))
    return displays


def _exhibits(displays: Sequence[_Display]) -> dict[str, list[Exhibit]]:
    exhibits: dict[str, list[Exhibit]] = {task: [] for task in TASKS}
    for display in displays:
        shots = {name: drawn and _shot(*drawn) for name, drawn in display.drawn.items()}
        exhibits.setdefault(display.task, []).append(Exhibit(display.caption, shots))
    return {task: shown for task, shown in exhibits.items() if shown}


def _shot(pixels: np.ndarray, row: Row) -> Shot:
    return Shot(picture(pixels, SHOT_PX), row["correct"], row["reason"])


def _columns(displays: Sequence[_Display]) -> list[Column]:
    """The first prompt of every task, then the second ones while there is room."""
    by_task: dict[str, list[_Display]] = {}
    for display in displays:
        by_task.setdefault(display.task, []).append(display)
    order = [shown[turn] for turn in range(len(displays)) for shown in by_task.values() if turn < len(shown)]
    return [
        Column(one.caption, {name: drawn and Cell(drawn[0], drawn[1]["correct"]) for name, drawn in one.drawn.items()})
        for one in order[:GRID_COLUMNS]
    ]


def _charts(report: Report, versions: Sequence[Version], names: dict[str, str]) -> list[Markup]:
    """Curves of every checkpoint in the lineage; those that were not judged themselves are called by their size."""
    tone = tones(report)
    charts: list[Markup] = []
    for version in versions:
        if version.ref.kind == "checkpoint":
            name = names.get(version.ref.version)
            shown = name or f"{version.plan.stage}, {checkpoint_config(version).size_px} px"
            charts += checkpoint_charts(shown, version, tone[name] if name else "c3")
    return charts
