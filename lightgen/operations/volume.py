"""How many images are worth paying for: what more captions of a recipe's corpora would show, beside what they cost.

Nothing is made and nothing is written. Diversity is estimated from a sample (`lightgen.decisions.growth`), costs come
from the code of `lightgen plan`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from jaxtyping import Float64

from lightgen.decisions.chosen_coverage import ChosenCoverage, chosen_coverage
from lightgen.decisions.growth import REACH, Growth, growth, saturation
from lightgen.errors import ConfigError
from lightgen.operations.caption_sample import Captions, asked_of, captions_of, store_of
from lightgen.operations.forecast import Forecast
from lightgen.operations.machines import Machine, this_machine
from lightgen.operations.measured import Rate, rates_of
from lightgen.operations.outlook import Line, lines_of
from lightgen.operations.steps import images_step, steps_of
from lightgen.operations.survey import Found
from lightgen.recipe import Recipe
from lightgen.stages.select import SelectConfig

FEWEST, MOST = 5, 100  # steps: where none is given, and in all
LEAST_GAIN = 0.01
HOUR_S = 3600.0
COSTLY = ("generate", "score", "recaption", "texts", "encode")  # stages whose missing figure is told


@dataclass(frozen=True)
class Cost:
    """Of a number of captions, or of some more. Hours are device-hours; `hours` are those of the clock."""

    images: float
    gpu_hours: float
    processor_hours: float
    hours: float
    bytes: float
    usd: float

    def beyond(self, other: "Cost") -> "Cost":
        """What this one takes more than another."""
        return Cost(*(mine - theirs for mine, theirs in zip(_values(self), _values(other), strict=True)))


@dataclass(frozen=True)
class Worth:
    """The curve, the cost of every step of it, and what a step must add to be worth it (`least_gain`, 0 to 1).

    choice: what the recipe's rule of choice shows beside the lot; None where it leaves no caption out
    costs, more: of each step in all, and over the step before; empty where the recipe draws no images
    by: where hours come from
    without: steps that grow with the volume and have no figure
    """

    recipe: Recipe
    captions: Captions
    growth: Growth
    least_gain: float
    choice: ChosenCoverage | None
    machine: Machine
    costs: tuple[Cost, ...]
    more: tuple[Cost, ...]
    by: tuple[str, ...]
    without: tuple[str, ...]

    @property
    def asked(self) -> int | None:
        """Captions that the recipe asks for."""
        return asked_of(self.recipe)

    @property
    def enough(self) -> int | None:
        """The volume beyond which every step adds less than `least_gain`; None where the last step adds as much."""
        return self._beyond(self.growth.gain.mean)

    @property
    def enough_ends(self) -> tuple[int | None, int | None]:
        """The same by the lower and the upper end of the band."""
        return self._beyond(self.growth.gain.low), self._beyond(self.growth.gain.high)

    def _beyond(self, gains: Float64[np.ndarray, " steps"]) -> int | None:
        steps = self.growth.steps
        whole = gains[: steps[-1] // steps[0]]  # a last step may be smaller than the others
        place = saturation(whole, self.least_gain)
        return None if place is None else (0, *steps)[place]


def worth(
    recipe: Recipe,
    store: str,
    sample: int | None = None,
    upto: int | None = None,
    step: int | None = None,
    least_gain: float = LEAST_GAIN,
    machine: Machine | None = None,
    usd_per_hour: float | None = None,
) -> Worth:
    """Coverage and costs in steps of `step` captions up to `upto`.

    By default: of 200,000 captions, or half of what the recipe asks for if that is more; up to three times the sample
    or all captions. The store is read for captions that are sealed and for what was measured. Raises ConfigError for
    numbers that the corpora or the sample do not allow, and what reading captions raises.
    """
    opened = store_of(recipe, store)
    captions = captions_of(recipe, opened, sample)
    steps = steps_up_to(captions, upto, step)
    found = growth(captions.sample, steps)
    machine = machine or this_machine(store)
    priced = recipe.evaluate.usd_per_hour if recipe.evaluate and usd_per_hour is None else usd_per_hour or 0.0
    ledger = _Ledger(recipe, machine, rates_of(opened) if opened else {}, priced)
    costs = [ledger.cost(volume) for volume in steps] if ledger.draws else []
    none = Cost(0, 0, 0, 0, 0, 0) if not costs else ledger.cost(0)
    more = [mine.beyond(before) for before, mine in zip([none, *costs], costs, strict=False)]
    by, without = ledger.grounds(steps[-1]) if ledger.draws else ((), ())
    return Worth(
        recipe, captions, found, least_gain, _choice(recipe, captions), machine,
        tuple(costs), tuple(more), by, without,
    )  # fmt: skip


def steps_up_to(captions: Captions, upto: int | None, step: int | None) -> list[int]:
    """The volumes that are looked at, ascending; the last may be less than a step. Raises ConfigError."""
    reach = int(REACH * captions.sampled)
    last = upto or min(reach, captions.held)
    if last > captions.held:
        about = "" if captions.exact else "about "
        raise ConfigError(
            f"--upto {last:,}: {captions.place} hold {about}{captions.held:,} distinct captions that may be drawn; "
            "lower it, or add captions"
        )
    if last > reach:
        raise ConfigError(
            f"--upto {last:,}: {captions.sampled:,} captions tell nothing beyond {reach:,}; lower it, or give "
            f"--sample {ceil(last / REACH):,} or more"
        )
    if step is not None and step > last:
        raise ConfigError(f"--step {step:,} is more than the {last:,} captions that are looked at; lower it")
    step = step or round_step(last)
    if last > MOST * step:
        raise ConfigError(f"--step {step:,} makes {last // step:,} steps, at most {MOST} are told; raise it")
    return [*range(step, last + 1, step), *([last] if upto and last % step else [])]


def round_step(last: int) -> int:
    """The largest of 1, 2.5 and 5 times a power of ten that goes FEWEST times or more into `last`."""
    most = max(1, last // FEWEST)
    power = 10 ** (len(str(most)) - 1)
    return max(int(power * factor) for factor in (1, 2.5, 5) if power * factor <= most and power * factor % 1 == 0)


def _choice(recipe: Recipe, captions: Captions) -> ChosenCoverage | None:
    count = asked_of(recipe)
    if count is None or count >= captions.held or not isinstance(recipe.select, SelectConfig):
        return None
    return chosen_coverage(captions.terms, captions.sample, recipe.select.choice, count / captions.held)


class _Ledger:
    """What a number of captions costs, by the code of `lightgen plan`, as if nothing were made."""

    def __init__(self, recipe: Recipe, machine: Machine, rates: Mapping[bytes, Rate], usd_per_hour: float) -> None:
        self.recipe, self.machine, self.rates, self.usd_per_hour = recipe, machine, rates, usd_per_hour
        self.draws = recipe.select is not None and recipe.generate is not None
        self.forecast = Forecast(recipe)

    def cost(self, captions: int) -> Cost:
        """Of a run over so many captions, whole."""
        lines = self.lines(captions)
        seconds = {line.step.name: line.device_seconds or 0.0 for line in lines}
        on_gpu = [seconds[line.step.name] for line in lines if self._on_gpu(line)]
        clock = sum(line.seconds or 0.0 for line in lines) / HOUR_S
        rows = next(line.rows for line in lines if line.step.name == images_step(self.recipe))
        return Cost(
            images=rows.count if rows else 0.0,
            gpu_hours=sum(on_gpu) / HOUR_S,
            processor_hours=(sum(seconds.values()) - sum(on_gpu)) / HOUR_S,
            hours=clock,
            bytes=sum(line.bytes or 0.0 for line in lines),
            usd=clock * self.usd_per_hour + sum(line.fees for line in lines),
        )

    def grounds(self, captions: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Where the hours of growing steps come from, and which of these steps have none."""
        pairs = list(zip(self.lines(captions), self.lines(2 * captions), strict=True))
        grows = [one for one, two in pairs if one.rows and two.rows and two.rows.count > one.rows.count]
        by = dict.fromkeys(line.by for line in grows if line.device_seconds is not None)
        without = [line.step.name for line in grows if line.device_seconds is None and line.step.stage in COSTLY]
        return tuple(by), tuple(without)

    def lines(self, captions: int) -> Sequence[Line]:
        """The lines of the recipe with such a count."""
        given = self.recipe.select
        select = given if isinstance(given, SelectConfig) else SelectConfig()
        changed = self.recipe.model_copy(update={"select": select.model_copy(update={"count": captions})})
        found = [Found(step, "unknown", "") for step in steps_of(changed)]
        return lines_of(found, Forecast(changed), self.machine, self.rates, None)

    def _on_gpu(self, line: Line) -> bool:
        return self.machine.gpu is not None and self.forecast.wants_gpu(line.step)


def _values(cost: Cost) -> tuple[float, ...]:
    return (cost.images, cost.gpu_hours, cost.processor_hours, cost.hours, cost.bytes, cost.usd)
