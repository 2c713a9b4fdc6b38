"""Charts as inline SVG: curves of a training run, and intervals around zero. Colours come from the page's style."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH, HEIGHT = 420, 200
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 12, 26
LONGEST_NAME = 26  # characters beside an interval


@dataclass(frozen=True)
class Curve:
    """One line; `name` doubles as its entry in the legend and `tone` is a class of the style (`c0` to `c5`)."""

    name: str
    points: Sequence[tuple[float, float]]
    tone: str = "c0"


@dataclass(frozen=True)
class Whisker:
    """A figure or a difference with its interval; `bound` is what was asked of it."""

    name: str
    mean: float
    low: float
    high: float
    tone: str = "c0"
    bound: float | None = None


def line_chart(title: str, curves: Sequence[Curve], reference: float | None = None) -> Markup:
    """Curves over steps: each value faint, its running mean strong; `reference` is a level to compare with."""
    kept = [Curve(c.name, [p for p in c.points if math.isfinite(p[1])], c.tone) for c in curves]
    points = [point for curve in kept for point in curve.points]
    if not points:
        return Markup("")
    levels = _bounds([y for _, y in points] + ([] if reference is None else [reference]))
    steps = (min(x for x, _ in points), max(x for x, _ in points))
    frame = _Frame(steps, levels)
    parts = [frame.axes()]
    if reference is not None:
        y = frame.y(reference)
        parts.append(f'<line class="reference" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
    for curve in kept:
        parts.append(frame.path(curve.points, f"raw {curve.tone}"))
        parts.append(frame.path(_smooth(curve.points), f"line {curve.tone}"))
    legend = "".join(f'<span class="key {c.tone}">{escape(c.name)}</span>' for c in kept) if len(kept) > 1 else ""
    caption = f"<figcaption><b>{escape(title)}</b>{legend}</figcaption>"
    svg = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'
    return Markup(f'<figure class="chart">{caption}{svg}</figure>')


@dataclass(frozen=True)
class _Frame:
    """Maps steps and levels to the picture."""

    steps: tuple[float, float]
    levels: tuple[float, float]

    def x(self, step: float) -> float:
        low, high = self.steps
        return LEFT + (WIDTH - LEFT - RIGHT) * ((step - low) / (high - low) if high > low else 0.5)

    def y(self, level: float) -> float:
        low, high = self.levels
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (level - low) / (high - low)

    def path(self, points: Sequence[tuple[float, float]], tone: str) -> str:
        if len(points) == 1:  # a line of one point is not to be seen
            ((x, y),) = points
            return f'<circle class="{tone} sure" cx="{self.x(x):.1f}" cy="{self.y(y):.1f}" r="3"/>'
        joined = " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in points)
        return f'<polyline class="{tone}" points="{joined}"/>'

    def axes(self) -> str:
        lines = []
        for level in ticks(*self.levels):
            y = self.y(level)
            lines.append(f'<line class="rule" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            lines.append(f'<text x="{LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">{_short(level)}</text>')
        for step in ticks(*self.steps, count=5):
            x = min(max(self.x(step), LEFT + 4), WIDTH - RIGHT - 8)
            lines.append(f'<text x="{x:.1f}" y="{HEIGHT - 8}" text-anchor="middle">{_short(step)}</text>')
        return "".join(lines)


@dataclass(frozen=True)
class Levels:
    """Values from `low` at `bottom_px` up to `high` at `top_px`; what lies beyond is drawn at the edge."""

    low: float
    high: float
    top_px: float
    bottom_px: float

    def y(self, value: float) -> float:
        """Where a value is drawn, in px."""
        inside = min(max(value, self.low), self.high)
        return self.bottom_px - (self.bottom_px - self.top_px) * (inside - self.low) / (self.high - self.low)

    def rules(self, left_px: float, right_px: float) -> list[str]:
        """A line with its number at round values."""
        lines = []
        for level in ticks(self.low, self.high):
            y = self.y(level)
            lines.append(f'<line class="rule" x1="{left_px}" x2="{right_px}" y1="{y:.1f}" y2="{y:.1f}"/>')
            lines.append(f'<text x="{left_px - 6}" y="{y + 3.5:.1f}" text-anchor="end">{level:g}</text>')
        return lines


def whisker_chart(title: str, rows: Sequence[Whisker], reach: float) -> Markup:
    """Differences and their intervals, one a row, around a line at zero, from -`reach` to `reach`."""
    if not rows:
        return Markup("")
    left, right, row_px = 118, 64, 24
    bound = max(0.02, reach) * 1.08
    height = row_px * len(rows) + 30

    def x(value: float) -> float:
        return left + (WIDTH - left - right) * (value + bound) / (2 * bound)

    parts = []
    for value in ticks(-bound, bound, count=4):
        zero = " zero" if value == 0 else ""
        parts.append(f'<line class="rule{zero}" x1="{x(value):.1f}" x2="{x(value):.1f}" y1="4" y2="{height - 22}"/>')
        parts.append(f'<text x="{x(value):.1f}" y="{height - 7}" text-anchor="middle">{_signed(value)}</text>')
    for number, row in enumerate(rows):
        y = row_px * number + 18
        sure = "" if row.low <= 0 <= row.high else " sure"
        parts.append(f'<text class="name" x="0" y="{y + 4}">{escape(row.name)}</text>')
        parts.append(
            f'<line class="whisker {row.tone}{sure}" x1="{x(row.low):.1f}" x2="{x(row.high):.1f}" y1="{y}" y2="{y}"/>'
        )
        parts.append(f'<circle class="{row.tone}{sure}" cx="{x(row.mean):.1f}" cy="{y}" r="4"/>')
        parts.append(f'<text class="value{sure}" x="{WIDTH}" y="{y + 4}" text-anchor="end">{row.mean:+.3f}</text>')
    svg = f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'
    caption = f"<figcaption><b>{escape(title)}</b></figcaption>"
    return Markup(f'<figure class="chart">{caption}{svg}</figure>')


def interval_chart(title: str, rows: Sequence[Whisker], reach: tuple[float, float]) -> Markup:
    """Figures and their intervals, one a row, from `reach[0]` to `reach[1]`, each with a mark at its bound."""
    if not rows:
        return Markup("")
    left, right, row_px = 150, 40, 24
    height, (low, high) = row_px * len(rows) + 30, reach

    def x(value: float) -> float:
        return left + (WIDTH - left - right) * (min(max(value, low), high) - low) / (high - low)

    parts = []
    for value in ticks(low, high, count=4):
        zero = " zero" if value == 0 else ""
        parts.append(f'<line class="rule{zero}" x1="{x(value):.1f}" x2="{x(value):.1f}" y1="4" y2="{height - 22}"/>')
        parts.append(f'<text x="{x(value):.1f}" y="{height - 7}" text-anchor="middle">{value:g}</text>')
    for number, row in enumerate(rows):
        y = row_px * number + 18
        name = row.name if len(row.name) <= LONGEST_NAME else f"{row.name[: LONGEST_NAME - 1]}…"
        parts.append(f'<text class="name" x="0" y="{y + 4}">{escape(name)}</text>')
        ends = f'x1="{x(row.low):.1f}" x2="{x(row.high):.1f}" y1="{y}" y2="{y}"'
        parts.append(f'<line class="whisker {row.tone} sure" {ends}/>')
        if row.bound is not None:
            at = f'x1="{x(row.bound):.1f}" x2="{x(row.bound):.1f}" y1="{y - 8}" y2="{y + 8}"'
            parts.append(f'<line class="bound" {at}/>')
        parts.append(f'<circle class="{row.tone} sure" cx="{x(row.mean):.1f}" cy="{y}" r="4"/>')
        parts.append(f'<text class="value sure" x="{WIDTH}" y="{y + 4}" text-anchor="end">{row.mean:.2f}</text>')
    svg = f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'
    caption = f"<figcaption><b>{escape(title)}</b></figcaption>"
    return Markup(f'<figure class="chart">{caption}{svg}</figure>')


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round numbers within [low, high], about `count` of them."""
    if high <= low:
        return [low]
    rough = (high - low) / count
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(number * step, 12) + 0.0 for number in range(first, last + 1)]


def _bounds(levels: Sequence[float]) -> tuple[float, float]:
    """Range of the levels with some air; the top 1 % of a long run does not flatten the rest."""
    ordered = sorted(levels)
    high = ordered[-1] if len(ordered) < 100 else max(ordered[int(0.99 * len(ordered)) - 1], ordered[0])
    low = ordered[0]
    air = 0.06 * (high - low) or 0.06 * abs(high) or 1.0
    return low - air, high + air


def _smooth(points: Sequence[tuple[float, float]], share: float = 0.04) -> list[tuple[float, float]]:
    """Centred running mean over `share` of the run."""
    reach = int(len(points) * share / 2)
    out = []
    for index, (x, _) in enumerate(points):
        window = [y for _, y in points[max(0, index - reach) : index + reach + 1]]
        out.append((x, sum(window) / len(window)))
    return out


def _signed(number: float) -> str:
    return f"{number:+.2g}" if number else "0"


def _short(number: float) -> str:
    if abs(number) >= 1000:
        return f"{number / 1000:g}k"
    return f"{number:g}"
