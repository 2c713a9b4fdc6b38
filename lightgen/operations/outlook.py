"""What is left of a run, line by line: rows, bytes, time of devices, and whether the machine has room for it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from lightgen.operations.forecast import Forecast, Rows
from lightgen.operations.machines import GB, Machine, known_gpu
from lightgen.operations.measured import TRAINS, Rate, key_of_step
from lightgen.operations.step import Step
from lightgen.operations.steps import steps_of
from lightgen.operations.survey import Found
from lightgen.operations.training_cost import StudentAtSize, Trains, precision_of
from lightgen.problems import Problem
from lightgen.stages.align import AlignConfig
from lightgen.stages.pretrain import PretrainConfig
from lightgen.stages.reference import ReferenceConfig
from lightgen.stages.select import SelectConfig
from lightgen.storage.store import Store

IDLE_S = 3600.0  # that seven of eight GPUs may idle before it is a problem
MFU = 0.45  # share of a data sheet's products that is assumed to be reached


@dataclass(frozen=True)
class Line:
    """One step: what it gives, and what it will take. None: not known. `by` says where seconds come from."""

    found: Found
    rows: Rows | None
    bytes: float | None
    device_seconds: float | None
    devices: int
    by: str
    fees: float = 0.0
    """USD that services ask for."""

    @property
    def step(self) -> Step:
        """The step."""
        return self.found.step

    @property
    def seconds(self) -> float | None:
        """On the clock of the machine."""
        return None if self.device_seconds is None else self.device_seconds / self.devices


def unmade_lines(forecast: Forecast, machine: Machine) -> list[Line]:
    """A line for each step of a recipe of which nothing is made, by formula alone."""
    found = [Found(step, "unknown", "") for step in steps_of(forecast.recipe)]
    return lines_of(found, forecast, machine, {}, None)


def lines_of(
    found: Sequence[Found], forecast: Forecast, machine: Machine, rates: Mapping[bytes, Rate], store: Store | None
) -> list[Line]:
    """A line for each step. Seconds: of this very version's finished shards, else of the store, else by formula."""
    lines: dict[str, Line] = {}
    for one in found:
        rows = {name: line.rows for name, line in lines.items()}
        lines[one.step.name] = _line(one, rows, forecast, machine, rates, store)
    return list(lines.values())


def _line(
    found: Found,
    rows: Mapping[str, Rows | None],
    forecast: Forecast,
    machine: Machine,
    rates: Mapping[bytes, Rate],
    store: Store | None,
) -> Line:
    step = found.step
    if found.ref is not None:
        assert store is not None, "what is sealed lies in a store"
        manifest = store.open(found.ref).manifest
        return Line(found, Rows(found.ref.rows), float(manifest.bytes_total), 0.0, 1, "sealed")
    units = Rows(found.units) if found.units else forecast.units(step, rows)
    given = forecast.rows(step, units)
    key = key_of_step(step, forecast)
    rate = _fitting([found.rate, rates.get(key) if key else None], step, forecast, machine)
    size = given.count * rate.bytes if rate and given and rate.bytes else forecast.bytes(step, given)
    seconds, by = _device_seconds(step, units, rate, forecast, machine)
    fees = units.count * forecast.usd_per_unit(step) if units else 0.0
    return Line(found, given, size, seconds, devices_of(step, forecast, machine), by, fees)


def _fitting(rates: Sequence[Rate | None], step: Step, forecast: Forecast, machine: Machine) -> Rate | None:
    """The first rate that was measured on such a device; work of processors counts wherever it was done."""
    for rate in rates:
        if rate is None:
            continue
        if not forecast.wants_gpu(step):
            return rate
        sheet = known_gpu(rate.device, machine.memory)
        if rate.device == ("cpu" if machine.gpu is None else machine.gpu.name):
            return rate
        if machine.gpu is not None and sheet is not None and sheet.name == machine.gpu.name:
            return rate
    return None


def _device_seconds(
    step: Step, units: Rows | None, rate: Rate | None, forecast: Forecast, machine: Machine
) -> tuple[float | None, str]:
    """Seconds of one device, and where they come from."""
    if units is None:
        return None, ""
    if rate is not None:
        return units.count * rate.seconds, f"measured on {rate.device or 'an unknown device'}, {rate.source}"
    flops = forecast.flops(step)
    if flops is None:
        return None, "no figure"
    return units.count * flops / (machine.device_flops(precision_of(step.config)) * MFU), "formula"


def devices_of(step: Step, forecast: Forecast, machine: Machine) -> int:
    """How many devices of the machine work on a step at once."""
    config, run = step.config, forecast.recipe.run
    if not machine.gpus or not forecast.wants_gpu(step):
        return 1
    if isinstance(config, PretrainConfig | AlignConfig):
        return min(config.launch.processes, machine.gpus) * config.launch.nodes
    if run.engine == "serial":
        return 1
    return machine.gpus if run.workers == "auto" else min(run.workers, machine.gpus)


def machine_problems(lines: Sequence[Line], forecast: Forecast, machine: Machine) -> Iterator[Problem]:
    """Devices, memory and disk that what is left wants, and that are not there."""
    left = [line for line in lines if line.found.state != "sealed"]
    for line in left:
        yield from _devices(line, machine)
        yield from _memory(line, forecast, machine)
    yield from _disk(left, machine)
    long = [line for line in left if line.devices < machine.gpus and (line.seconds or 0.0) > IDLE_S]
    maps = [line.step.name for line in long if forecast.wants_gpu(line.step) and line.step.stage not in TRAINS]
    if maps and forecast.recipe.run.engine == "serial":
        what = f"{', '.join(maps)} would take one of {machine.gpus} GPUs for hours: the engine is serial"
        yield Problem("machine", "run.engine", what, "take processes", "gap")


def row_problems(lines: Sequence[Line]) -> Iterator[Problem]:
    """More prompts are wanted than there are captions."""
    rows = {line.step.name: line.rows for line in lines}
    for line in lines:
        config, given = line.step.config, rows.get(line.step.inputs[0]) if line.step.inputs else None
        if isinstance(config, SelectConfig) and config.count and given and given.count < config.count:
            what = f"{config.count:,} prompts of at most {given.count:,.0f} captions"
            yield Problem("recipe", f"{line.step.key}.count", what, "lower it, or add captions", "gap")


def _devices(line: Line, machine: Machine) -> Iterator[Problem]:
    config = line.step.config
    if isinstance(config, PretrainConfig | AlignConfig) and 0 < machine.gpus < config.launch.processes:
        what = f"{config.launch.processes} processes want a GPU each, and {machine.name} has {machine.gpus}"
        fix = "lower it, and raise accumulate by the same factor"
        yield Problem("machine", f"{line.step.key}.launch.processes", what, fix)


def _memory(line: Line, forecast: Forecast, machine: Machine) -> Iterator[Problem]:
    step, needed = line.step, forecast.memory(line.step)
    config, many = step.config, 1
    if isinstance(config, PretrainConfig | AlignConfig) and machine.gpu is None:
        many = config.launch.processes  # they share the memory of the processor
    if many * needed <= machine.memory:
        return
    of = f"{many} processes of {step.name} need" if many > 1 else f"{step.name} needs"
    where = machine.name if machine.gpu is None else f"a {machine.gpu.name}"
    what = f"{of} about {many * needed / GB:,.0f} GB by formula, and {where} has {machine.memory / GB:,.0f} GB"
    student = forecast.student_of(step)
    if student is None or not isinstance(config, PretrainConfig | AlignConfig | ReferenceConfig):
        yield Problem("machine", step.key, what, "take a larger one, or more offloading", "gap")
        return
    setting, fix = _smaller(config, student, machine.memory / many)
    # A processor may swap; a GPU has nowhere to go.
    yield Problem("machine", f"{step.key}.{setting}", what, fix, "gap" if machine.gpu is None else "stops")


def _smaller(config: Trains, student: StudentAtSize, memory: float) -> tuple[str, str]:
    """The setting with which `config` would fit into `memory`, and to what it is to be set."""
    left = memory - student.state_memory(config)
    if isinstance(config, ReferenceConfig):
        fits = int(left / student.sample_memory(config))
        what = f"which cuts the batch to {config.batch_size:,} pairs that the reference is asked about at a time"
        return "launch.accumulate", f"raise it, {what}: {max(0, fits):,} fit"
    if left <= 0:
        what = "the model alone does not fit: take a larger GPU, or"
        live = ", or give reference_draws" if isinstance(config, AlignConfig) and config.reference is None else ""
        return "launch.strategy", f"{what} fsdp on more of them{live}"
    accumulate = student.fitting_accumulate(config, memory)
    if accumulate is not None:
        recompute = "" if config.launch.recompute else ", or set launch.recompute"
        return "launch.accumulate", f"set it to {accumulate}, which fits{recompute}"
    recompute = "recompute it (launch.recompute), or " if not config.launch.recompute else ""
    return "launch.accumulate", f"not even one image at a time fits: {recompute}take a larger GPU"


def _disk(left: Sequence[Line], machine: Machine) -> Iterator[Problem]:
    needed = sum(line.bytes or 0.0 for line in left)
    if machine.disk is not None and needed > machine.disk:
        what = f"what is left takes about {needed / GB:,.0f} GB, and {machine.disk / GB:,.0f} GB are free"
        yield Problem("machine", "store", what, "free some, or take another store", "gap")
