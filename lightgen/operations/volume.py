"""How many images are worth paying for: what more captions of a recipe's corpora would show, beside what they cost.

Nothing is made and nothing is written. Diversity is estimated from a sample (`lightgen.decisions.growth`), costs come
from the code of `lightgen plan`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
import pyarrow as pa
from jaxtyping import Float64

from lightgen.corpora.by_lot import Lot, drawn
from lightgen.corpora.cleaning import clean_all
from lightgen.corpora.tokenizer import counter
from lightgen.decisions.chosen_coverage import TRIED, ChosenCoverage, chosen_coverage
from lightgen.decisions.concepts import all_concepts
from lightgen.decisions.far_apart import terms_of
from lightgen.decisions.growth import LEAST, REACH, Growth, growth, saturation
from lightgen.decisions.shingles import BLOCK, Shingles, Words, joined, read_words
from lightgen.errors import ConfigError, RefNotFound
from lightgen.operations.forecast import Forecast
from lightgen.operations.machines import Machine, this_machine
from lightgen.operations.measured import Rate, rates_of
from lightgen.operations.outlook import Line, lines_of
from lightgen.operations.steps import images_step, steps_of, until
from lightgen.operations.survey import Found, survey
from lightgen.recipe import Recipe, Use
from lightgen.seeds import derive_seed
from lightgen.stages.select import SelectConfig
from lightgen.stages.source import SourceConfig, files_of
from lightgen.storage.store import Store, open_store
from lightgen.texts import plain_words
from lightgen.work import Context

SAMPLE = 200_000  # captions, where a recipe does not ask for so many that more are needed
FEWEST = 5  # steps, where none is given
LEAST_GAIN = 0.01
HOUR_S = 3600.0
COSTLY = ("generate", "score", "recaption", "texts", "encode")  # stages whose missing figure is told


@dataclass(frozen=True)
class Captions:
    """What a recipe draws of.

    sample: concepts of a sample of distinct captions, in random order
    terms: of the first TRIED of them
    held: how many distinct captions there are that may be drawn; `exact` says that this is no estimate
    place: the sealed version or the corpora they were read from
    """

    sample: Shingles
    terms: Shingles
    held: int
    exact: bool
    place: str

    @property
    def sampled(self) -> int:
        """Captions of the sample."""
        return len(self.sample.offsets) - 1


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
        return _asked(self.recipe)

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
    opened = _opened(recipe, store)
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


def captions_of(recipe: Recipe, store: Store | None, count: int | None) -> Captions:
    """A sample of the recipe's captions, of the sealed version where there is one.

    Memory: twice the sample, and what its concepts take. Raises ConfigError where there are not enough captions.
    """
    if recipe.source is None:
        raise ConfigError(f"recipe {recipe.name} has no `source`: it draws no captions, so no volume can be chosen")
    wanted = count or max(SAMPLE, (_asked(recipe) or 0) // 2)
    seed = derive_seed(recipe.seed, "volume")
    sealed = _sealed(recipe, store)
    if sealed is not None:
        place, lot = sealed[0], drawn(sealed[1], wanted, seed)
        texts = lot.texts.cast(pa.large_string())
    else:
        assert isinstance(recipe.source, SourceConfig), "a version that is used is sealed"
        place = ", ".join(corpus.given for corpus in recipe.source.corpora)
        count_tokens = counter(recipe.source.tokenizer)
        lot = drawn(_raw(recipe.source), wanted, seed)
        cleaned = (clean_all(part, recipe.source, count_tokens).captions for part in _blocks(lot.texts))
        texts = pa.chunked_array(cleaned, pa.large_string()).combine_chunks().drop_null()
    held = round(lot.distinct * len(texts) / max(len(lot.texts), 1))
    _refuse_few(recipe, place, lot, len(texts), held, count)
    concepts = joined([all_concepts().found(_words(part)) for part in _blocks(texts)])
    if not (np.diff(concepts.offsets) > 1).any():
        raise ConfigError(f"{place}: no caption speaks of two concepts of our list, which is English")
    return Captions(concepts, terms_of(_words(texts.slice(0, TRIED))), held, lot.exact, place)


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
    return [*range(step, last + 1, step), *([last] if upto and last % step else [])]


def round_step(last: int) -> int:
    """The largest of 1, 2.5 and 5 times a power of ten that goes FEWEST times or more into `last`."""
    most = max(1, last // FEWEST)
    power = 10 ** (len(str(most)) - 1)
    return max(int(power * factor) for factor in (1, 2.5, 5) if power * factor <= most and power * factor % 1 == 0)


def _asked(recipe: Recipe) -> int | None:
    return recipe.select.count if isinstance(recipe.select, SelectConfig) else None


def _opened(recipe: Recipe, store: str) -> Store | None:
    """The store, where there is one; a version that the recipe uses must be in it."""
    try:
        return open_store(store)
    except RefNotFound:
        if isinstance(recipe.source, Use):
            raise
        return None


def _sealed(recipe: Recipe, store: Store | None) -> tuple[str, Iterator[pa.LargeBinaryArray]] | None:
    """Which version of captions is there, and its texts."""
    if store is None:
        return None
    if isinstance(recipe.source, Use):
        ref = store.open(recipe.source.use).ref
    else:
        context = Context(store, recipe.seed, recipe.run, find_only=True)
        ref = survey(until(steps_of(recipe), ["source"]), context)[0].ref
    if ref is None:
        return None
    version = store.open(ref)
    columns = (version.table(shard, columns=["caption"])["caption"] for shard in range(version.n_shards))
    chunks = (chunk.cast(pa.large_binary()) for column in columns for chunk in column.chunks)
    return str(ref), chunks


def _raw(source: SourceConfig) -> Iterator[pa.LargeBinaryArray]:
    for file in files_of(source):
        for batch in file.batches():
            fine = np.ones(len(batch), bool)
            fine[list(batch.refused)] = False
            yield batch.text.filter(pa.array(fine))


def _blocks(texts: pa.Array) -> Iterator[pa.Array]:
    return (texts.slice(first, BLOCK) for first in range(0, len(texts), BLOCK))


def _words(texts: pa.Array) -> Words:
    return read_words(list(map(plain_words, texts.to_pylist())))


def _choice(recipe: Recipe, captions: Captions) -> ChosenCoverage | None:
    count = _asked(recipe)
    if count is None or count >= captions.held or not isinstance(recipe.select, SelectConfig):
        return None
    return chosen_coverage(captions.terms, captions.sample, recipe.select.choice, count / captions.held)


def _refuse_few(recipe: Recipe, place: str, lot: Lot, usable: int, held: int, count: int | None) -> None:
    if not usable:
        raise ConfigError(f"{place}: {lot.read:,} captions were read and none may be drawn; see `lightgen plan`")
    if usable < LEAST:
        raise ConfigError(f"{place}: a sample of {usable:,} captions; a curve takes {LEAST:,} or more")
    if count is not None and count > lot.distinct:
        raise ConfigError(f"--sample {count:,}: {place} hold {held:,} distinct captions; lower it, or leave it out")


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
