"""Steps of a recipe, whatever they make: each with its settings and the steps that it is made of."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from lightgen.config import Config
from lightgen.errors import ConfigError
from lightgen.recipe import Use
from schemas.ref import ArtifactRef


@dataclass(frozen=True)
class Step:
    """One version to be made: the stage, its settings, and the steps it is made of, `labels` being their names there.

    `role` is what the version is for: it is published as kind@role. `key` is where the recipe has the settings.
    `after` are steps that must be done before, though this one is not made of them.
    """

    name: str
    stage: str
    config: Config
    inputs: tuple[str, ...] = ()
    labels: tuple[str, ...] = field(default=())
    role: str = ""
    key: str = ""
    after: tuple[str, ...] = ()


Call = Callable[[Step, list[ArtifactRef]], ArtifactRef]


def walk(steps: Iterable[Step], call: Call) -> dict[str, ArtifactRef]:
    """Every step in order, each given what the steps before made; returns all by name of the step."""
    made: dict[str, ArtifactRef] = {}
    for step in steps:
        made[step.name] = call(step, [made[name] for name in inputs(step)])
    return made


def inputs(step: Step) -> tuple[str, ...]:
    """The steps that must be made before; a version that is taken as it is needs none."""
    return () if isinstance(step.config, Use) else step.inputs


def until(steps: Sequence[Step], goals: Sequence[str] = ()) -> list[Step]:
    """The steps that `goals` need, in order; a goal is the name of a step, or that of a stage. Raises ConfigError.

    Without goals: what the steps need that nothing else is made of.
    """
    used = {name for step in steps for name in (*step.inputs, *step.after)}
    wanted = [step.name for goal in goals for step in _named(steps, goal)] or [
        s.name for s in steps if s.name not in used
    ]
    by_name, needed = {step.name: step for step in steps}, set[str]()
    while wanted:
        name = wanted.pop()
        if name not in needed:
            needed.add(name)
            wanted.extend((*inputs(by_name[name]), *by_name[name].after))
    return [step for step in steps if step.name in needed]


def _named(steps: Sequence[Step], goal: str) -> list[Step]:
    exact = [step for step in steps if step.name == goal]
    found = exact or [step for step in steps if step.stage == goal]
    if not found:
        raise ConfigError(f"the recipe has no step {goal!r}; it has {', '.join(step.name for step in steps)}")
    return found
