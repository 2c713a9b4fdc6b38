"""Curves of the score where the best of N images is taken, with intervals over prompts and the ceiling."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup, escape

from lightgen.evaluation.best_of import BestOfCurves, Point
from lightgen.pages.charts import Levels
from lightgen.pages.html import visible
from lightgen.storage.version import Version

WIDTH, HEIGHT = 360, 200  # px, near what a card gives it, so that words keep their size
LEFT, RIGHT, TOP, BOTTOM = 34, 10, 12, 38


def best_of_charts(version: Version, tones: Mapping[str, str]) -> list[Markup]:
    """One chart a model of a REPORT version; none where it holds no such curves."""
    if "best_of.json" not in version.file_names:
        return []
    found = BestOfCurves.model_validate_json(version.file("best_of.json").read_bytes())
    how = f"best of N by {found.scorer}.{found.column}"
    return [_chart(f"{name}: {how}", points, tones[name]) for name, points in found.curves.items()]


def _chart(title: str, points: Sequence[Point], tone: str) -> Markup:
    low = max(0.0, min(point.low for point in points) - 0.03)
    high = min(1.0, max(point.oracle for point in points) + 0.03)
    most = points[-1].n

    def x(n: int) -> float:
        return LEFT + 8 + (WIDTH - LEFT - RIGHT - 16) * (n - 1) / (most - 1)

    levels = Levels(low, high, TOP, HEIGHT - BOTTOM)
    y, parts = levels.y, levels.rules(LEFT, WIDTH - RIGHT)
    for point in points:
        at = f"{x(point.n):.1f}"
        ends = f'x1="{at}" x2="{at}" y1="{y(point.low):.1f}" y2="{y(point.high):.1f}"'
        parts.append(f'<line class="whisker {tone}" {ends}/>')
        if most <= 8 or point.n in (1, 2, 4, 8, 12, 16) or point.n == most:
            parts.append(f'<text x="{at}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{point.n}</text>')
    ceiling = " ".join(f"{x(point.n):.1f},{y(point.oracle):.1f}" for point in points)
    curve = " ".join(f"{x(point.n):.1f},{y(point.mean):.1f}" for point in points)
    parts.append(f'<polyline class="reference" points="{ceiling}"/><polyline class="line {tone}" points="{curve}"/>')
    parts += [f'<circle class="{tone} sure" cx="{x(p.n):.1f}" cy="{y(p.mean):.1f}" r="2.6"/>' for p in points]
    said = "images a prompt, N (dashed: any right of N)"
    parts.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}" text-anchor="middle">{said}</text>')
    name = escape(visible(title))
    svg = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{name}">{"".join(parts)}</svg>'
    first, last = points[0], points[-1]
    told = f"{first.mean:.2f} → {last.mean:.2f} [{last.low:.2f}, {last.high:.2f}], any right: {last.oracle:.2f}"
    return Markup(f'<figure class="chart"><figcaption><b>{name}</b><span>{told}</span></figcaption>{svg}</figure>')
