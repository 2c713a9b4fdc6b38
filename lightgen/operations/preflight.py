"""Everything that can be known of a run before its first paid minute: `lightgen plan`, and what every run asks first.

No model is loaded, no store is made, and nothing is written to one. Names of versions depend on the content of their
parents, so below the first step that is not made they are unknown until it is.
"""

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from lightgen.config import problems_of
from lightgen.errors import ConfigError, InputCorrupt, ModelError, RefNotFound, StoreError
from lightgen.generators.student import StudentGeneratorConfig
from lightgen.operations.checks import fit_problems
from lightgen.operations.forecast import Forecast
from lightgen.operations.machines import Machine, this_machine
from lightgen.operations.measured import rates_of
from lightgen.operations.outlook import Line, lines_of, machine_problems, row_problems
from lightgen.operations.step import Step, until
from lightgen.operations.steps import steps_of
from lightgen.operations.survey import Found, survey
from lightgen.problems import Place, Problem
from lightgen.recipe import Recipe
from lightgen.stages.generate import GenerateConfig
from lightgen.storage.store import Store, open_or_create, open_store, try_conditional_writes
from lightgen.work import Context

log = logging.getLogger(__name__)
UNORDERED = ("encode", "pair.winner")  # where a problem leaves a recipe without an order of steps
PLACES: tuple[Place, ...] = ("recipe", "here", "machine")


@dataclass(frozen=True)
class Preflight:
    """What a run would do, what it would take, and what stands in its way."""

    recipe: Recipe
    machine: Machine
    lines: tuple[Line, ...]
    problems: tuple[Problem, ...]
    usd_per_hour: float = 0.0

    def of(self, place: Place) -> list[Problem]:
        """One of the three lists, the worst first; remarks are in none."""
        found = [problem for problem in self.problems if problem.place == place and problem.weight != "remark"]
        return sorted(found, key=lambda problem: problem.weight != "stops")

    @property
    def remarks(self) -> list[Problem]:
        """What is worth knowing and no fault."""
        return [problem for problem in self.problems if problem.weight == "remark"]

    @property
    def sound(self) -> bool:
        """Whether the three lists are empty."""
        return not any(self.of(place) for place in PLACES)


def preflight(
    recipe: Recipe,
    store: str,
    goals: Sequence[str] = (),
    machine: Machine | None = None,
    usd_per_hour: float | None = None,
    compare: bool = True,
) -> Preflight:
    """Look at the steps that `goals` need (without goals: all), on `machine`, by default this one.

    With `compare` the store is asked how long such steps took. Raises ConfigError where the recipe has none of the
    goals, StoreError where the store is damaged.
    """
    machine, forecast = machine or this_machine(store), Forecast(recipe)
    problems = list(fit_problems(recipe))
    if any(problem.weight == "stops" and problem.where in UNORDERED for problem in problems):
        return Preflight(recipe, machine, (), tuple(problems))
    steps = until(steps_of(recipe), goals)
    with _for_reading(store, problems) as opened:
        found = survey(steps, Context(opened, recipe.seed, recipe.run, find_only=True))
        lines = lines_of(found, forecast, machine, rates_of(opened) if compare else {}, opened)
        problems += _absent_checkpoints(found, opened)
    problems += _of_parts(recipe, found)
    problems += row_problems(lines)
    problems += machine_problems(lines, forecast, machine)
    problems += _troubles(found, problems)
    concerned = [problem for problem in problems if not goals or _concerns(problem, steps)]
    priced = recipe.evaluate.usd_per_hour if recipe.evaluate and usd_per_hour is None else usd_per_hour or 0.0
    return Preflight(recipe, machine, tuple(lines), tuple(_merged(concerned)), priced)


def check(recipe: Recipe, store: str, goals: Sequence[str] = ()) -> None:
    """Raise ConfigError with every problem at once that would stop this run; what else is amiss is logged."""
    found = preflight(recipe, store, goals, compare=False)
    for problem in found.problems:
        if problem.weight == "gap":
            log.warning("%s", problem)
    stopping = [problem for place in PLACES for problem in found.of(place) if problem.weight == "stops"]
    if stopping:
        listed = "\n".join(f"  {problem.place:<8} {problem}" for problem in stopping)
        raise ConfigError(
            f"recipe {recipe.name} would fail before its end, so it was not started; see `lightgen plan`:\n{listed}"
        )


@contextmanager
def _for_reading(store: str, problems: list[Problem]) -> Iterator[Store]:
    """The store, or an empty one for the moment where there is none; what keeps it from being used joins `problems`."""
    try:
        yield open_store(store)
        return
    except RefNotFound:
        pass
    try:
        try_conditional_writes(store)
    except StoreError as error:
        problems.append(Problem("machine", "store", str(error), "take another place for it"))
    with tempfile.TemporaryDirectory() as folder:
        yield open_or_create(folder)


def _of_parts(recipe: Recipe, found: Sequence[Found]) -> Iterator[Problem]:
    """What the settings of the steps say that are not sealed, each part of the recipe asked once."""
    yield from problems_of(recipe.run, "run")
    for key in dict.fromkeys(one.step.key for one in found if one.state != "sealed"):
        yield from problems_of(_part(recipe, key), key)


def _part(recipe: Recipe, key: str) -> Any:
    part: Any = recipe
    for name in key.split("."):
        if isinstance(part, list):
            part = part[int(name)]
        else:
            part = part[name] if isinstance(part, dict) else getattr(part, name)
    return part


def _absent_checkpoints(found: Sequence[Found], store: Store) -> Iterator[Problem]:
    """Students of the store that are to draw, and that it does not have."""
    for one in found:
        config = one.step.config
        if not isinstance(config, GenerateConfig) or len(one.step.inputs) > 1:
            continue
        if isinstance(config.generator, StudentGeneratorConfig):
            try:
                store.open(config.generator.checkpoint)
            except RefNotFound:
                what, where = f"the store has no {config.generator.checkpoint}", f"{one.step.key}.generator.checkpoint"
                yield Problem("here", where, what, "make it with its own recipe, or name another")


def _troubles(found: Sequence[Found], known: Sequence[Problem]) -> Iterator[Problem]:
    """Why a step cannot be named, where no other problem of its part says so."""
    for one in found:
        if one.trouble is not None and not any(_under(problem.where, one.step.key) for problem in known):
            place = "here" if isinstance(one.trouble, InputCorrupt | ModelError) else "recipe"
            yield Problem(place, one.step.key, str(one.trouble), "put it right")


def _concerns(problem: Problem, steps: Sequence[Step]) -> bool:
    return problem.where.split(".")[0] in ("run", "store") or any(_under(problem.where, step.key) for step in steps)


def _under(where: str, key: str) -> bool:
    return where == key or where.startswith(f"{key}.")


def _merged(problems: Sequence[Problem]) -> Iterator[Problem]:
    """A problem that several settings share, once."""
    places: dict[Problem, list[str]] = {}
    for problem in problems:
        places.setdefault(replace(problem, where=""), []).append(problem.where)
    for problem, wheres in places.items():
        yield replace(problem, where=", ".join(sorted(set(wheres))))
