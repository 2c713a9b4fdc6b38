"""What a checkpoint's `log.jsonl` and `speed.json` tell: curves of the loss and of DPO's health, and last figures."""

import base64
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape
from pydantic import BaseModel, ConfigDict

from lightgen.generators.restore import checkpoint_config
from lightgen.pages.charts import HEIGHT, WIDTH, Curve, line_chart
from lightgen.pages.html import spoken
from lightgen.storage.version import Version

LN2 = math.log(2)
Row = dict[str, Any]
Log = dict[str, list[tuple[float, float]]]
LAST = {
    "loss": ("last loss", "{:.4f}"),
    "accuracy": ("last implicit accuracy", "{:.1%}"),
    "margin": ("last margin", "{:+.4f}"),
    "lr": ("last learning rate", "{:.3g}"),
}

# A picture of its own: it has no part in the style of the page around it, which may be light or dark.
SHEET_STYLE = """
svg { background: #fff } text { font: 10.5px system-ui, sans-serif; fill: #6a6c72 }
.rule { stroke: #e5e3dd } .reference { stroke: #a3a4a9; stroke-dasharray: 3 4 }
polyline { fill: none; stroke: var(--tone); stroke-linejoin: round }
.raw { opacity: .25; stroke-width: 1 } .line { stroke-width: 1.8 }
.title { font-size: 12.5px; font-weight: 600; fill: #1f2023 } tspan { fill: var(--tone) }
.c0 { --tone: #35618f } .c2 { --tone: #2f7d5b } .c5 { --tone: #b4473c }
"""
SHEET_EDGE, SHEET_TITLE, SHEET_POINTS = 14, 24, 300


@dataclass(frozen=True)
class Chart:
    """Curves of one training run that share a scale; `reference` is a level to compare with, and `hint` its name."""

    title: str
    curves: Sequence[Curve]
    reference: float | None = None
    hint: str = ""


class Speed(BaseModel):
    """`speed.json`: what a run cost; MFU is 0 where the ceiling of the device was not measured."""

    model_config = ConfigDict(frozen=True)

    images_per_s: float
    tflops: float
    mfu: float
    gpu_hours: float
    seconds: float
    processes: int
    device: str


def read_log(rows: Sequence[Row]) -> Log:
    """Points (step, value) by figure; rows without numbers, such as skipped steps, add nothing."""
    log: Log = {}
    for row in rows:
        for name, value in row.items():
            if name != "step" and isinstance(value, int | float):
                log.setdefault(name, []).append((row["step"], float(value)))
    return log


def checkpoint_charts(name: str, version: Version, tone: str = "c0") -> list[Markup]:
    """Every chart of one training run."""
    return [
        line_chart(f"{name}: {one.title}{one.hint}", one.curves, one.reference)
        for one in _charts(read_log(_rows(version)), tone)
    ]


def curve_sheet(version: Version) -> str:
    """The same charts as one SVG, two across, that stands alone: a data URI for pages that take pictures only."""
    cells = [cell for cell in map(_cell, _charts(read_log(_rows(version)), "c0")) if cell]
    if not cells:
        return ""
    across, step_x, step_y = min(2, len(cells)), WIDTH + SHEET_EDGE, HEIGHT + SHEET_TITLE + SHEET_EDGE
    placed = [
        f'<g transform="translate({SHEET_EDGE + at % across * step_x} {SHEET_EDGE + at // across * step_y})">{cell}</g>'
        for at, cell in enumerate(cells)
    ]
    width, height = SHEET_EDGE + across * step_x, SHEET_EDGE + -(-len(cells) // across) * step_y
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{SHEET_STYLE}</style>{"".join(placed)}</svg>'
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"


def training_figures(version: Version) -> dict[str, str]:
    """Steps, the last logged figures and what the run cost, for people."""
    rows, total = _rows(version), checkpoint_config(version).steps
    log, steps, skipped = read_log(rows), rows[-1]["step"], sum("skipped" in row for row in rows)
    last = {what: form.format(log[name][-1][1]) for name, (what, form) in LAST.items() if name in log}
    return {
        "steps": f"{steps:,}",
        **({"steps with those before": f"{total:,}"} if total != steps else {}),
        **({"steps skipped": f"{skipped:,}"} if skipped else {}),
        **last,
        **_speed_figures(version),
    }


def _speed_figures(version: Version) -> dict[str, str]:
    """Empty for versions that were made before speed was kept."""
    if "speed.json" not in version.file_names:
        return {}
    speed = Speed.model_validate_json(version.file("speed.json").read_bytes())
    many = f"{speed.processes} × " if speed.processes > 1 else ""
    return {
        "images a second": f"{speed.images_per_s:,.1f}",
        "TFLOP/s": f"{speed.tflops:,.3g}",
        **({"MFU": f"{speed.mfu:.1%}"} if speed.mfu else {}),
        "device": f"{many}{speed.device}",
        "time in steps": spoken(speed.seconds),
        f"{'CPU' if speed.device == 'cpu' else 'GPU'}-hours": f"{speed.gpu_hours:,.3g}",
    }


def _charts(log: Log, tone: str) -> list[Chart]:
    """The loss; for DPO also implicit accuracy against chance, margin, and both images' errors."""
    loss = [Curve("loss", log.get("loss", []), tone)]
    if "margin" not in log:
        return [Chart("loss", loss)]
    errors = [Curve("winner", log.get("winner_error", []), "c2"), Curve("loser", log.get("loser_error", []), "c5")]
    return [
        Chart("loss", loss, LN2, " (dashed: ln 2, no preference)"),
        Chart("implicit accuracy", [Curve("accuracy", log.get("accuracy", []), tone)], 0.5, " (dashed: chance)"),
        Chart("margin", [Curve("margin", log.get("margin", []), tone)], 0.0),
        Chart("noise error", errors),
    ]


def _cell(chart: Chart) -> str:
    """One chart of the sheet below its title, or nothing; the SVG is taken out of the figure that our pages show."""
    curves = [Curve(one.name, _thinned(one.points), one.tone) for one in chart.curves]
    drawn = re.search(r"<svg (.*</svg>)", line_chart(chart.title, curves, chart.reference), re.DOTALL)
    if drawn is None:
        return ""
    keys = [f'<tspan class="{one.tone}" dx="8">{escape(one.name)}</tspan>' for one in curves]
    title = escape(chart.title + chart.hint) + Markup("".join(keys if len(keys) > 1 else []))
    return (
        f'<text class="title" y="12">{title}</text><svg y="{SHEET_TITLE}" width="{WIDTH}" height="{HEIGHT}" {drawn[1]}'
    )


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most `SHEET_POINTS` points, each the mean of its neighbours: a dashboard keeps the sheet in its database."""
    kept = [point for point in points if math.isfinite(point[1])]
    size = -(-len(kept) // SHEET_POINTS) or 1
    groups = [kept[at : at + size] for at in range(0, len(kept), size)]
    return [(sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]


def _rows(version: Version) -> list[Row]:
    return [json.loads(line) for line in version.file("log.jsonl").read_text(encoding="utf-8").splitlines()]
