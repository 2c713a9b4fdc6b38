"""The page of an ablation: a curve with intervals over seeds for each task, each seed a dot, and all figures below."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup, escape

from lightgen.operations.ablation import OVERALL, Figures, Measured, Pooled
from lightgen.pages.charts import Levels, ticks
from lightgen.pages.html import render, visible
from lightgen.pages.report import LABELS, TRAINED_TONES
from lightgen.storage.store import Store

WIDTH, HEIGHT = 360, 210  # px, near what a card gives it, so that words keep their size
LEFT, RIGHT, TOP, BOTTOM = 34, 10, 12, 40
ROW_PX, NAMES_PX = 26, 132
LONGEST_NAME = 22  # characters beside a row
KEYS_PX = 20  # above a picture that stands alone
NUDGE_PX = 5.0  # between curves that stand at the same x

# A picture of its own: it has no part in the style of the page around it, which may be light or dark.
ALONE = """
svg { background: #fff } text { font: 10.5px system-ui, sans-serif; fill: #5a5c62 }
.rule { stroke: #e5e3dd } polyline { fill: none; stroke: var(--tone); stroke-width: 1.8; stroke-linejoin: round }
.whisker { stroke: var(--tone); stroke-width: 2; stroke-linecap: round; opacity: .6 }
circle { fill: #fff; stroke: var(--tone); stroke-width: 1.4 } circle.sure { fill: var(--tone) }
.name { font-size: 12px; fill: #1f2023 } .value { font-size: 11.5px; fill: #1f2023; font-weight: 600 }
tspan { fill: var(--tone) }
.c0 { --tone: #35618f } .c1 { --tone: #b57f26 } .c2 { --tone: #2f7d5b } .c4 { --tone: #8a5a94 } .c5 { --tone: #b4473c }
"""


@dataclass(frozen=True)
class _Point:
    """One variant on a chart."""

    one: Pooled
    seeds: Sequence[Measured]
    tone: str

    @property
    def ends(self) -> tuple[float, float]:
        """The interval over seeds; with one seed that over prompts, of its own report."""
        if self.one.low is None or self.one.high is None:
            return self.seeds[0].low, self.seeds[0].high
        return self.one.low, self.one.high


def ablation_page(found: Figures) -> str:
    """The page as one file."""
    tasks = list(dict.fromkeys(one.task for one in found.pooled))
    names = {OVERALL: "overall", **LABELS}
    return render(
        "ablation.html",
        title=found.ablation.title,
        figures=found,
        ablation=found.ablation,
        first=found.ablation.variants[0].name,
        sentences=sentences(found),
        main=_chart(found, OVERALL, "Share of right images, overall"),
        charts=[_chart(found, task, names.get(task, task)) for task in tasks if task != OVERALL],
        rows=[one for one in found.pooled if one.task == OVERALL],
        runs=[one for one in found.measured if one.task == OVERALL],
    )


def overall_svg(found: Figures) -> str:
    """The chart of the overall score as a picture that stands alone."""
    width, height, body = _drawn(found, OVERALL)
    tones = {point.one.curve: point.tone for point in _points(found, OVERALL)}
    if len(tones) > 1:
        keys = [f'<tspan class="{tone}" dx="10">{escape(visible(name))}</tspan>' for name, tone in tones.items()]
        body += f'<text class="name" x="{LEFT}" y="-6">{"".join(keys)}</text>'
    size = f'width="{width}" height="{height + KEYS_PX}" viewBox="0 -{KEYS_PX} {width} {height + KEYS_PX}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{ALONE}</style>{body}</svg>\n'


def sentences(found: Figures) -> list[str]:
    """What the seeds let us say of each variant against the first, in the order of the variants."""
    rows = [one for one in found.pooled if one.task == OVERALL]
    return [_sentence(one, rows[0].variant) for one in rows[1:]]


def _sentence(one: Pooled, first: str) -> str:
    gain = f"{one.variant}: {one.difference:+.3f} against {first}"
    if one.difference_low is None or one.difference_high is None:
        return f"{gain}, with one seed, which shows nothing of how another would differ."
    said = f"{gain}, {one.difference_low:+.3f} to {one.difference_high:+.3f} over {one.seeds} seeds"
    if one.difference_low <= 0 <= one.difference_high:
        return f"{said}: no difference that these seeds can show."
    return f"{said}: {'better' if one.difference > 0 else 'worse'} beyond the spread of seeds."


def _chart(found: Figures, task: str, title: str) -> Markup:
    width, height, body = _drawn(found, task)
    tones = {point.one.curve: point.tone for point in _points(found, task)}
    keys = "".join(f'<span class="key {tone}">{escape(visible(name))}</span>' for name, tone in tones.items())
    keys = f'<span class="keys">{keys}</span>' if len(tones) > 1 else ""
    caption = f"<figcaption><b>{escape(title)}</b>{keys}</figcaption>"
    svg = f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">{body}</svg>'
    return Markup(f'<figure class="chart">{caption}{svg}</figure>')


def _drawn(found: Figures, task: str) -> tuple[int, int, str]:
    """Width, height and what is in between: along an axis where variants have an x, else row by row."""
    points = _points(found, task)
    along = points and points[0].one.x is not None
    return (WIDTH, HEIGHT, _along(found, points)) if along else _rows(points)


def _points(found: Figures, task: str) -> list[_Point]:
    pooled = [one for one in found.pooled if one.task == task]
    curves = list(dict.fromkeys(one.curve for one in pooled))
    return [
        _Point(
            one,
            [each for each in found.measured if (each.task, each.variant) == (task, one.variant)],
            TRAINED_TONES[curves.index(one.curve) % len(TRAINED_TONES)],
        )
        for one in pooled
    ]


def _reach(points: Sequence[_Point]) -> tuple[float, float]:
    """Range of all seeds and intervals with some air, within 0 and 1."""
    ends = [end for p in points for end in (*p.ends, *(seed.mean for seed in p.seeds))]
    low, high = min(ends), max(ends)
    air = max(0.02, 0.08 * (high - low))
    return max(0.0, low - air), min(1.0, high + air)


def _along(found: Figures, points: Sequence[_Point]) -> str:
    """Curves over x: whiskers and a line through the means, seeds as small rings."""
    low, high = _reach(points)
    xs = sorted({point.one.x for point in points if point.one.x is not None})
    curves = list(dict.fromkeys(point.one.curve for point in points))

    def x(value: float, curve: str) -> float:
        at, first, last = (math.log(one) if found.ablation.log else one for one in (value, xs[0], xs[-1]))
        share = (at - first) / (last - first) if last > first else 0.5
        nudge = NUDGE_PX * (curves.index(curve) - (len(curves) - 1) / 2)
        return LEFT + 12 + (WIDTH - LEFT - RIGHT - 24) * share + nudge

    levels = Levels(low, high, TOP, HEIGHT - BOTTOM)
    y, parts = levels.y, levels.rules(LEFT, WIDTH - RIGHT)
    for value in xs:
        at = x(value, curves[0]) + NUDGE_PX * (len(curves) - 1) / 2
        parts.append(f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{value:,g}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    axis = escape(visible(found.ablation.axis))
    parts.append(f'<text x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{axis}</text>')
    for curve in curves:
        on = sorted((p for p in points if p.one.curve == curve), key=lambda point: point.one.x or 0.0)
        joined = " ".join(f"{x(p.one.x or 0.0, curve):.1f},{y(p.one.mean):.1f}" for p in on)
        parts.append(f'<polyline class="line {on[0].tone}" points="{joined}"/>')
        for point in on:
            at = x(point.one.x or 0.0, curve)
            least, most = map(y, point.ends)
            ends = f'x1="{at:.1f}" x2="{at:.1f}" y1="{least:.1f}" y2="{most:.1f}"'
            parts.append(f'<line class="whisker {point.tone}" {ends}/>')
            parts += [_dot(at, y(seed.mean), point.tone, 2.4) for seed in point.seeds]
            parts.append(_dot(at, y(point.one.mean), f"{point.tone} sure", 3.4))
    return "".join(parts)


def _rows(points: Sequence[_Point]) -> tuple[int, int, str]:
    """Variants one below the other: whiskers, seeds as small rings, means as dots and in figures."""
    low, high = _reach(points)
    height = ROW_PX * len(points) + 34

    def x(value: float) -> float:
        return NAMES_PX + (WIDTH - NAMES_PX - 44) * (min(max(value, low), high) - low) / (high - low)

    parts = []
    for level in ticks(low, high):
        parts.append(f'<line class="rule" x1="{x(level):.1f}" x2="{x(level):.1f}" y1="4" y2="{height - 24}"/>')
        parts.append(f'<text x="{x(level):.1f}" y="{height - 8}" text-anchor="middle">{level:g}</text>')
    for number, point in enumerate(points):
        y, one = ROW_PX * number + 18, point.one
        name = one.variant if len(one.variant) <= LONGEST_NAME else f"{one.variant[: LONGEST_NAME - 1]}…"
        parts.append(f'<text class="name" x="0" y="{y + 4}">{escape(visible(name))}</text>')
        least, most = map(x, point.ends)
        parts.append(f'<line class="whisker {point.tone}" x1="{least:.1f}" x2="{most:.1f}" y1="{y}" y2="{y}"/>')
        parts += [_dot(x(seed.mean), y, point.tone, 2.6) for seed in point.seeds]
        parts.append(_dot(x(one.mean), y, f"{point.tone} sure", 4))
        parts.append(f'<text class="value sure" x="{WIDTH}" y="{y + 4}" text-anchor="end">{one.mean:.3f}</text>')
    return WIDTH, height, "".join(parts)


def _dot(x: float, y: float, tone: str, radius: float) -> str:
    return f'<circle class="{tone}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}"/>'


def write_ablation(found: Figures, store: Store, to: Path | None = None) -> list[Path]:
    """Page, figures and chart as files: in `to`, or in the folder `pages` of a local store, or here."""
    folder = to or (Path.cwd() if store.uri.startswith("s3://") else Path(store.uri) / "pages")
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        ".html": ablation_page(found),
        ".json": found.model_dump_json(indent=1) + "\n",
        ".svg": overall_svg(found),
    }
    paths = {folder / f"ablation-{found.ablation.name}{end}": text for end, text in files.items()}
    for path, text in paths.items():
        path.write_text(text, encoding="utf-8")
    return list(paths)
