"""docs/costs.md: what the large recipes take on named machines, by the formulas of `lightgen plan`."""

from collections.abc import Iterator, Sequence
from typing import Final

from lightgen.operations.forecast import Forecast
from lightgen.operations.machines import GB, GPUS, described
from lightgen.operations.outlook import MFU, Line, unmade_lines
from lightgen.recipe import load_recipe

RECIPES: Final = ("paper", "repo")
MACHINES: Final = ("8xA100-80", "8xH100")
HOUR_S: Final = 3600.0
INTRODUCTION: Final = f"""# What a run costs

`lightgen costs` writes this page with the code of `lightgen plan`, and a test compares. **Nothing on it was measured
on a GPU.**

For a recipe of your own, a machine and its price an hour: `lightgen plan my.yaml --on 8xH100 --usd-per-hour 24`. As
soon as a store holds a version made with the same settings on the same device, `plan` takes its seconds in place of
the formula.

How a figure comes about:

- Hours are operations over {100 * MFU:.0f} % of the products of the data sheet, which is an assumption.
- Operations are those of matrix products and attention. A picture of Flux takes 2 × 12e9 × 1,536 tokens × 28 steps at
  512 px. Training takes three forward passes. `lightgen/model/flops.py` has the student's, tested against torch's own
  counter.
- Rows are the most that there can be. Captions that repeat, pictures that are refused and pairs that are tied make it
  less.
- Size is of what stays in the store. A picture of 512 px is counted as 70 kB, and a caption as 39 tokens of text
  features, in the codec that the recipe names.
- Memory is of each GPU: weights, optimizer and a microbatch of the launch that the recipe names.
- Hours on the machine are device-hours over the GPUs that work side by side.

Pictures of the teacher are what costs. That is why captions are made diverse before one is drawn. For comparison, the
published run took 88 A100-days (2,112 hours) for its last pretraining stage. Its cache of features at 256 px is
4.7 TB: flipped and plain moments in float32, text padded to 128.

Data sheets that are known, in dense bfloat16 products:
SHEETS.
"""


def markdown() -> str:
    """The page. It depends on nothing but the recipes: no store, file or hub is asked."""
    sheets = ", ".join(f"{gpu.name} {gpu.flops / 1e12:,.0f} TFLOP/s" for gpu in GPUS)
    sections = ["\n".join(_section(Forecast(load_recipe(name)))) for name in RECIPES]
    return "\n".join([INTRODUCTION.replace("SHEETS", sheets), *sections])


def _section(forecast: Forecast) -> Iterator[str]:
    """One recipe: a row for each step that has a figure, sums, and the steps without one."""
    machines = [described(spec) for spec in MACHINES]
    planned = [unmade_lines(forecast, machine) for machine in machines]
    titles = ["step", "rows", "size", "GB a GPU", *(f"{title}, {one.name}" for one in machines for title in TITLES)]
    yield f"## `recipes/{forecast.recipe.name}.yaml`\n"
    yield f"| {' | '.join(titles)} |"
    yield f"| {' | '.join(['---'] * len(titles))} |"
    for lines in zip(*planned, strict=True):
        if lines[0].device_seconds is not None:
            yield f"| {' | '.join(_cells(lines, forecast))} |"
    size = _size(sum(line.bytes or 0.0 for line in planned[0]))
    hours = [sum(map(count, lines)) for lines in planned for count in (_device_hours, _hours)]
    yield f"| {' | '.join(['**in all**', '', size, '', *map(_number, hours)])} |\n"
    without = [line.step.name for line in planned[0] if line.device_seconds is None]
    yield f"Without a figure: {', '.join(without)}.\n"


TITLES: Final = ("device-hours", "hours")


def _cells(lines: Sequence[Line], forecast: Forecast) -> list[str]:
    line, needed = lines[0], forecast.memory(lines[0].step)
    rows = f"{line.rows.count:,.0f}" if line.rows else ""
    size, memory = _size(line.bytes) if line.bytes else "", f"{needed / GB:,.0f}" if needed >= GB else ""
    hours = [count(one) for one in lines for count in (_device_hours, _hours)]
    return [f"`{line.step.name}`", rows, size, memory, *map(_number, hours)]


def _device_hours(line: Line) -> float:
    return (line.device_seconds or 0.0) / HOUR_S


def _hours(line: Line) -> float:
    return (line.seconds or 0.0) / HOUR_S


def _number(value: float) -> str:
    """Three digits at most, for an assumption gives no more."""
    if value < 0.05:
        return "< 0.1"
    return f"{float(f'{value:.3g}'):,.0f}" if value >= 100 else f"{value:.1f}"


def _size(size: float) -> str:
    unit, name = (1e12, "TB") if size >= 1e12 else (1e9, "GB")
    return f"{size / unit:,.2f} {name}"
