"""The words, the curve and the page of `lightgen volume`: what more images would show, and what they would cost."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape

from lightgen.decisions.growth import REACH
from lightgen.operations.volume import Cost, Worth
from lightgen.pages.charts import ticks
from lightgen.pages.html import render
from lightgen.stages.generate import GenerateConfig

TITLES = ("captions", "coverage", "95 % band", "pairs", "concepts", "device-hours", "size", "USD")
WIDTH, HEIGHT = 440, 230  # px, near what a card gives it, so that words keep their size
LEFT, RIGHT, TOP, BOTTOM = 40, 38, 12, 40


def volume_page(found: Worth) -> str:
    """The page as one file."""
    lines = rows(found)
    return render(
        "volume.html",
        title=f"Volume: {found.recipe.name}",
        found=found,
        facts=facts(found),
        verdict=verdict(found),
        charts=[_coverage_chart(found), _gain_chart(found)],
        titles=TITLES[: len(lines[0])],
        rows=lines,
        sentences=sentences(found),
        grounds=grounds(found),
    )


def facts(found: Worth) -> list[str]:
    """What was looked at."""
    captions = found.captions
    about = "" if captions.exact else "about "
    told = [
        f"{found.recipe.name}: {captions.sampled:,} of {about}{captions.held:,} distinct captions, {captions.place}"
    ]
    if found.asked and found.asked > captions.held:
        told.append(f"select.count asks for {found.asked:,}: there are not so many")
    elif found.asked and found.asked > found.growth.steps[-1]:
        told.append(f"select.count asks for {found.asked:,}, beyond the end of this curve: see --sample and --upto")
    elif found.asked:
        band, volumes = found.growth.coverage, found.growth.volumes
        mean, low, high = (float(np.interp(found.asked, volumes, one)) for one in (band.mean, band.low, band.high))
        told.append(f"select.count asks for {found.asked:,}: {mean:.1%} coverage ({_ends(low, high)})")
    return told


def rows(found: Worth) -> list[list[str]]:
    """One line a volume: what so many captions show, and what they cost in all."""
    growth, lines = found.growth, []
    for place, step in enumerate(growth.steps):
        at = growth.at(step)
        mark = "" if step <= found.captions.sampled else " *"
        line = [
            f"{step:,}{mark}", f"{growth.coverage.mean[at]:.1%}",
            f"{growth.coverage.low[at]:.1%} to {growth.coverage.high[at]:.1%}",
            f"{growth.pairs.mean[at]:,.0f}", f"{growth.concepts[at]:,.0f}",
        ]  # fmt: skip
        if found.costs:
            cost = found.costs[place]
            line += [_figure(cost.gpu_hours + cost.processor_hours), _size(cost.bytes)]
            line += [_figure(cost.usd)] if found.costs[-1].usd else []
        lines.append(line)
    return lines


def sentences(found: Worth) -> list[str]:
    """What each step adds, and what it costs."""
    growth, before, told = found.growth, 0, []
    for place, step in enumerate(growth.steps):
        gain = f"{_share(growth.gain.mean[place])}% coverage ({_ends(growth.gain.low[place], growth.gain.high[place])})"
        cost = f" and cost {_told(found.more[place])}" if found.more else ""
        what = _what(found, step - before, place)
        told.append(
            f"The next {what}, to {step:,}, add {gain}{cost}." if before else f"The first {what} add {gain}{cost}."
        )
        before = step
    return told


def verdict(found: Worth) -> str:
    """From where on more are not worth it."""
    step, least = found.growth.steps[0], f"{100 * found.least_gain:g} %"
    if found.enough is None:
        last = found.growth.steps[-1]
        return f"Up to {last:,} every further {step:,} captions add {least} coverage or more: no saturation is seen."
    if not found.enough:
        return f"Not even the first {step:,} captions show {least}: give a larger --step, or a lower --least-gain."
    reached = found.growth.coverage.mean[found.growth.at(found.enough)]
    told = f"Beyond {found.enough:,} captions ({reached:.1%} coverage) every further {step:,} add less than {least}."
    early, late = found.enough_ends
    if early == late:
        return told
    latest = "after the end of this curve" if late is None else f"beyond {late:,}"
    return f"{told} By the band that is beyond {early:,} at the earliest and {latest} at the latest."


def grounds(found: Worth) -> list[str]:
    """What the figures mean and rest on."""
    sampled = found.captions.sampled
    told = [
        "coverage: of the pairs of concepts that one caption more speaks of, the share that so many captions by lot "
        "have shown; one picture counts as shown",
        f"95 % band: how another sample would differ. *: beyond the sample of {sampled:,}, an estimate; its band is "
        f"widened by the miss of a trial. Nothing is told beyond {REACH:g} times the sample",
        f"trial: from a third of the sample the estimate for all of it misses by at most {found.growth.trial:.2%}",
    ]
    if found.choice is not None:
        tried, rule = found.choice, found.recipe.select.choice.kind  # type: ignore[union-attr]
        told.append(
            f"choice: {tried.count:,} of {tried.candidates:,} captions of the sample, taken by {rule}, show "
            f"{tried.chosen:.1%} of the pairs in {tried.asked:,} others; as many by lot {tried.by_lot:.1%}"
        )
    if found.costs:
        hours = ", ".join(found.by) or "no figure"
        told.append(
            f"costs: of the whole recipe on {found.machine.name}, as `lightgen plan` tells them for such a count; "
            f"hours by {hours}. Training takes the steps that the recipe says at any volume"
        )
    if found.without:
        told.append(f"without a figure: {', '.join(found.without)}")
    return told


def _what(found: Worth, captions: int, place: int) -> str:
    images = found.more[place].images if found.more else 0.0
    if round(images) == captions:
        return f"{captions:,} images"
    weights = isinstance(found.recipe.generate, GenerateConfig) and found.recipe.generate.samples_by_source
    most = "up to " if weights else ""
    return f"{captions:,} captions ({most}{images:,.0f} images)" if images else f"{captions:,} captions"


def _told(cost: Cost) -> str:
    parts = [f"{_figure(cost.gpu_hours)} GPU-hours"] if cost.gpu_hours else []
    parts += [f"{_figure(cost.processor_hours)} processor-hours"] if cost.processor_hours else []
    parts += [f"{_size(cost.bytes)}"] if cost.bytes else []
    parts += [f"USD {_figure(cost.usd)}"] if cost.usd else []
    return ", ".join(parts) or "nothing that has a figure"


def _ends(low: float, high: float) -> str:
    return f"{_share(low)} to {_share(high)}"


def _share(value: float) -> str:
    """In percent; small ones have a digit more."""
    return f"{100 * value:.{1 if value >= 0.01 else 2}f}"


def _figure(value: float) -> str:
    """Three digits at most: an estimate gives no more."""
    if 0 < value < 0.05:
        return "< 0.1"
    return f"{float(f'{value:.3g}'):,.0f}" if value >= 100 else f"{value:.1f}"


def _size(size: float) -> str:
    unit, name = next(((u, n) for u, n in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")) if size >= u), (1e3, "kB"))
    return f"{size / unit:,.1f} {name}"


@dataclass(frozen=True)
class _Frame:
    """Maps captions, up to `last`, and shares, up to `most`, to a picture."""

    last: float
    most: float

    def x(self, captions: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * captions / self.last

    def y(self, share: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share / self.most

    def axes(self) -> list[str]:
        middle = (LEFT + WIDTH - RIGHT) / 2
        parts = [f'<text x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">captions</text>']
        for level in ticks(0, self.most):
            y = self.y(level)
            parts.append(f'<line class="rule" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(f'<text x="{LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">{100 * level:g} %</text>')
        for at in ticks(0, self.last):
            x = self.x(at)
            parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{_short(at)}</text>')
        return parts

    def line(self, points: Iterable[tuple[float, float]], tone: str) -> str:
        return f'<polyline class="line {tone}" points="{self._joined(points)}"/>'

    def area(self, points: Iterable[tuple[float, float]], tone: str) -> str:
        return f'<polygon class="band {tone}" points="{self._joined(points)}"/>'

    def dot(self, captions: float, share: float, tone: str) -> str:
        return f'<circle class="{tone} sure" cx="{self.x(captions):.1f}" cy="{self.y(share):.1f}" r="3"/>'

    def _joined(self, points: Iterable[tuple[float, float]]) -> str:
        return " ".join(f"{self.x(captions):.1f},{self.y(share):.1f}" for captions, share in points)


def _coverage_chart(found: Worth) -> Markup:
    """Coverage with its band over captions, and what they cost on a scale of its own at the right."""
    growth, coverage, sampled = found.growth, found.growth.coverage, found.captions.sampled
    frame = _Frame(growth.steps[-1], 1.0)
    upper = zip(growth.volumes, coverage.high.tolist(), strict=True)
    lower = zip(growth.volumes, coverage.low.tolist(), strict=True)
    curve = [(0, 0.0), *zip(growth.volumes, coverage.mean.tolist(), strict=True)]
    within = [point for point in curve if point[0] <= sampled]
    parts = [*frame.axes(), frame.area([*upper, *[*lower][::-1]], "c0"), frame.line(within, "c0")]
    parts.append(frame.line([within[-1], *curve[len(within) :]], "c0 guessed"))
    parts += [frame.dot(step, coverage.mean[growth.at(step)], "c0") for step in growth.steps]
    keys = {"coverage": "c0"}
    most = max(map(_hours, found.costs), default=0.0)
    if most:
        paid = [(0, 0.0), *((step, _hours(one) / most) for step, one in zip(growth.steps, found.costs, strict=True))]
        parts.append(frame.line(paid, "c1"))
        parts += [
            f'<text x="{WIDTH - RIGHT + 6}" y="{frame.y(level / most) + 3.5:.1f}">{_short(level)}</text>'
            for level in ticks(0, most)
        ]
        keys["device-hours in all, right"] = "c1"
    return _figure_of("Coverage and cost", keys, parts)


def _gain_chart(found: Worth) -> Markup:
    """What each step but the first adds, with its band, and the least that is worth it."""
    growth, gain = found.growth, found.growth.gain
    if len(growth.steps) < 2:
        return Markup("")
    frame = _Frame(growth.steps[-1], max(1.08 * float(gain.high[1:].max()), 1.5 * found.least_gain, 0.001))
    parts, worth = frame.axes(), frame.y(found.least_gain)
    parts.append(f'<line class="reference" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{worth:.1f}" y2="{worth:.1f}"/>')
    for place, step in list(enumerate(growth.steps))[1:]:
        ends = f'y1="{frame.y(gain.low[place]):.1f}" y2="{frame.y(gain.high[place]):.1f}"'
        parts.append(f'<line class="whisker c2" x1="{frame.x(step):.1f}" x2="{frame.x(step):.1f}" {ends}/>')
        parts.append(frame.dot(step, gain.mean[place], "c2"))
    return _figure_of("Coverage that each step adds", {f"least gain {100 * found.least_gain:g} %, dashed": "c3"}, parts)


def _figure_of(title: str, keys: dict[str, str], parts: Sequence[str]) -> Markup:
    told = "".join(f'<span class="key {tone}">{escape(key)}</span>' for key, tone in keys.items())
    caption = f'<figcaption><b>{escape(title)}</b><span class="keys">{told}</span></figcaption>'
    svg = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'
    return Markup(f'<figure class="chart">{caption}{svg}</figure>')


def _hours(cost: Cost) -> float:
    return cost.gpu_hours + cost.processor_hours


def _short(number: float) -> str:
    if number >= 1e6:
        return f"{number / 1e6:g}M"
    return f"{number / 1000:g}k" if number >= 1000 else f"{number:g}"
