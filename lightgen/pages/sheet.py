"""Charts of curves as one picture that stands alone, for pages that take pictures only, such as Prefect's."""

import base64
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from lightgen.pages.charts import HEIGHT, WIDTH, Curve, line_chart

# A picture of its own: it has no part in the style of the page around it, which may be light or dark.
SHEET_STYLE = """
svg { background: #fff } text { font: 10.5px system-ui, sans-serif; fill: #6a6c72 }
.rule { stroke: #e5e3dd } .reference { stroke: #a3a4a9; stroke-dasharray: 3 4 }
polyline { fill: none; stroke: var(--tone); stroke-linejoin: round }
.raw { opacity: .25; stroke-width: 1 } .line { stroke-width: 1.8 }
.title { font-size: 12.5px; font-weight: 600; fill: #1f2023 } tspan { fill: var(--tone) }
.c0 { --tone: #35618f } .c1 { --tone: #b57f26 } .c2 { --tone: #2f7d5b } .c5 { --tone: #b4473c }
"""
SHEET_EDGE, SHEET_TITLE, SHEET_POINTS = 14, 36, 300


@dataclass(frozen=True)
class Chart:
    """Curves that share a scale; `reference` is a level to compare with, and `hint` its name."""

    title: str
    curves: Sequence[Curve]
    reference: float | None = None
    hint: str = ""

    def drawn(self, before: str = "") -> Markup:
        """As a figure of our own pages, `before` its title."""
        return line_chart(f"{before}{self.title}{self.hint}", self.curves, self.reference)


def sheet_of(charts: Sequence[Chart]) -> str:
    """The charts as one SVG, two across, as a data URI; empty if there is nothing to draw."""
    cells = [cell for cell in map(_cell, charts) if cell]
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


def _cell(chart: Chart) -> str:
    """One chart of the sheet below its title, or nothing; the SVG is taken out of the figure that our pages show."""
    curves = [Curve(one.name, _thinned(one.points), one.tone) for one in chart.curves]
    drawn = re.search(r"<svg (.*</svg>)", line_chart(chart.title, curves, chart.reference), re.DOTALL)
    if drawn is None:
        return ""
    keys = [f'<tspan class="{one.tone}" dx="8">{escape(one.name)}</tspan>' for one in curves]
    key = f'<text class="title" x="-8" y="28">{"".join(keys)}</text>' if len(keys) > 1 else ""
    title = f'<text class="title" y="12">{escape(chart.title + chart.hint)}</text>{key}'
    return f'{title}<svg y="{SHEET_TITLE}" width="{WIDTH}" height="{HEIGHT}" {drawn[1]}'


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most `SHEET_POINTS` points, each the mean of its neighbours: a dashboard keeps the sheet in its database."""
    kept = [point for point in points if math.isfinite(point[1])]
    size = -(-len(kept) // SHEET_POINTS) or 1
    groups = [kept[at : at + size] for at in range(0, len(kept), size)]
    return [(sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]
