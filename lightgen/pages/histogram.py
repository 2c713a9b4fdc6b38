"""A histogram of scores with the line that a rule draws through it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from markupsafe import Markup, escape

from lightgen.decisions.rules import Rule

BINS = 40
WIDTH, HEIGHT, FOOT = 320, 110, 18


@dataclass(frozen=True)
class Histogram:
    """Counts of values in BINS equal bins from `low` to `high`; what lies beyond counts in the outermost."""

    low: float
    high: float
    counts: np.ndarray

    @staticmethod
    def of(parts: Iterable[Float[np.ndarray, " n"]]) -> "Histogram | None":
        """Over values that come in parts, read once; the range is that of the first part that has any.

        Memory: one part. None where there is no finite value.
        """
        found: Histogram | None = None
        for part in parts:
            values = part[np.isfinite(part)]
            if found is None and len(values):
                low, high = float(values.min()), float(values.max())
                found = Histogram(low, high if high > low else low + abs(low) / BINS or 1.0, np.zeros(BINS, np.int64))
            if found is not None:
                inside = np.clip(values, found.low, found.high)
                found.counts[:] += np.histogram(inside, BINS, (found.low, found.high))[0]
        return found


def ruled_chart(name: str, parts: Iterable[Float[np.ndarray, " n"]], rules: Sequence[Rule]) -> Markup | None:
    """A column that comes in parts, with the ends of the rules on it as lines; None where it has no finite value."""
    found = Histogram.of(parts)
    lines = {end for rule in rules if rule.column == name for end in (rule.least, rule.most) if end is not None}
    return None if found is None else histogram_chart(name, found, sorted(lines))


def histogram_chart(title: str, found: Histogram, lines: Sequence[float]) -> Markup:
    """Bars on a square-root scale, so that a rare refused value can be seen beside a frequent one."""
    low, high = min(found.low, *lines, found.high), max(found.high, *lines, found.low)
    tallest = np.sqrt(found.counts.max())

    def x(value: float) -> float:
        return WIDTH * (value - low) / (high - low)

    edges = np.linspace(found.low, found.high, BINS + 1)
    bars = "".join(
        f'<rect x="{x(left):.1f}" y="{HEIGHT * (1 - np.sqrt(count) / tallest):.1f}" '
        f'width="{max(1.0, x(right) - x(left) - 0.6):.1f}" height="{HEIGHT * np.sqrt(count) / tallest:.1f}"/>'
        for left, right, count in zip(edges, edges[1:], found.counts, strict=False)
        if count
    )
    marks = "".join(f'<line class="bound" x1="{x(at):.1f}" x2="{x(at):.1f}" y1="0" y2="{HEIGHT}"/>' for at in lines)
    ends = f'<text y="{HEIGHT + 14}">{_short(low)}</text>'
    ends += f'<text x="{WIDTH}" y="{HEIGHT + 14}" text-anchor="end">{_short(high)}</text>'
    drawn = f'<svg viewBox="0 0 {WIDTH} {HEIGHT + FOOT}" role="img"><g class="bars">{bars}</g>{marks}{ends}</svg>'
    bounds = ", ".join(f"{at:g}" for at in lines)
    key = f"<span>line at {bounds}</span>" if lines else ""
    return Markup(f'<figure class="chart"><figcaption><b>{escape(title)}</b>{key}</figcaption>{drawn}</figure>')


def _short(value: float) -> str:
    """Three digits, of whole thousands all."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.3g}"
