"""Ablations: a list of variants of one recipe, each run to its report with several seeds, and the figures of all.

Every run is an ordinary one on an ordinary store. What variants share (captions, images, features, a student that is
only drawn from differently) is made once, and what a kill left is found again.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from scipy.stats import t as student_t

from lightgen.config import Config
from lightgen.errors import ConfigError, LightgenError, RunsFailed
from lightgen.operations.lineage import ancestors, step
from lightgen.operations.outlook import Line
from lightgen.operations.preflight import preflight
from lightgen.operations.step import Step, inputs, until
from lightgen.operations.steps import models, steps_of
from lightgen.recipe import RECIPES, Recipe, load_recipe
from lightgen.recipe_yaml import read_yaml
from lightgen.seeds import content_id
from lightgen.storage.store import Store
from schemas.ref import ArtifactRef
from schemas.report import Interval, Report

FOLDER = RECIPES / "ablations"
GOAL, OVERALL, CONFIDENCE = "evaluate", "overall", 0.95
Made = Mapping["Run", ArtifactRef]


class Variant(Config):
    """One point of a curve: the recipe with some settings changed, and which model of its report counts."""

    name: str = Field(min_length=1, description="unlike all others; the first is what others are compared with")
    curve: str = Field(default="", description="variants of one curve are joined by a line")
    x: float | None = Field(default=None, description="where it stands on the axis; without it, by its name")
    model: str = Field(default="pretrained", description="as the report calls it")
    set: dict[str, Any] = Field(default={}, description="settings by dotted key, as after --set")


class Ablation(Config):
    """A file of `recipes/ablations`."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]*$")
    title: str
    claim: str = Field(default="", description="what was claimed of it, and where")
    axis: str = Field(default="", description="what x is, with its unit")
    log: bool = Field(default=False, description="x by its logarithm")
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1, description="of whole runs: data, weights, draws")
    set: dict[str, Any] = Field(default={}, description="settings of all variants")
    variants: tuple[Variant, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _told_apart(self) -> "Ablation":
        named = {"variant": [one.name for one in self.variants], "seed": [str(seed) for seed in self.seeds]}
        for what, given in named.items():
            twice = sorted({one for one in given if given.count(one) > 1})
            if twice:
                raise ValueError(f"{what} {', '.join(twice)} stands there twice; each must be there once")
        axes = {one.x is None for one in self.variants}
        if len(axes) > 1:
            raise ValueError("some variants have an x and some have none; give it to all or to none")
        if self.log and any(one.x is None or one.x <= 0 for one in self.variants):
            raise ValueError("log: true needs an x above 0 of every variant")
        if "seed" in self.set or any("seed" in one.set for one in self.variants):
            raise ValueError("`seed` is not a setting of a variant; give `seeds`")
        return self


@dataclass(frozen=True)
class Run:
    """One variant with one seed."""

    variant: str
    seed: int


class Measured(BaseModel):
    """The score of one run, with the interval over prompts of its own report."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    variant: str
    curve: str
    x: float | None
    seed: int
    task: str
    mean: float
    low: float
    high: float
    report: str


class Pooled(BaseModel):
    """The mean of one variant over its seeds, and of its paired difference to the first variant.

    Intervals are Student's over the seeds, 95 %; None with one seed. They hold what another seed would change (data,
    weights and draws), on the same test prompts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    variant: str
    curve: str
    x: float | None
    task: str
    seeds: int
    mean: float
    low: float | None
    high: float | None
    difference: float
    difference_low: float | None
    difference_high: float | None


class Figures(BaseModel):
    """`ablation-<name>.json`: every figure of the page. `seconds`: of the steps of all runs, what they share once."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ablation: Ablation
    recipe: str
    seconds: float
    measured: list[Measured]
    pooled: list[Pooled]


def load_ablation(name_or_path: str) -> Ablation:
    """The file `name` of `recipes/ablations`, or that at a path. Raises ConfigError naming file, key and reason."""
    known = (Path(name_or_path), FOLDER / f"{name_or_path}.yaml")
    path = next((path for path in known if path.is_file()), None)
    if path is None:
        named = sorted(one.stem for one in FOLDER.glob("*.yaml") if "variants:" in one.read_text())
        raise ConfigError(f"no ablation {name_or_path!r}: give a path, or one of {', '.join(named)}")
    try:
        return Ablation.model_validate(read_yaml(path))
    except ValidationError as error:
        said = "; ".join(f"{'.'.join(map(str, one['loc'])) or 'ablation'}: {one['msg']}" for one in error.errors())
        raise ConfigError(f"{path}: {said}") from None


def recipes_of(recipe: str, ablation: Ablation, overrides: Mapping[str, Any] | None = None) -> dict[Run, Recipe]:
    """The recipe of every run, by variant, then seed. Raises ConfigError naming the variant before anything is made."""
    return {
        Run(variant.name, seed): _recipe(recipe, variant, {**(overrides or {}), **ablation.set, **variant.set}, seed)
        for variant in ablation.variants
        for seed in ablation.seeds
    }


def _recipe(recipe: str, variant: Variant, settings: dict[str, Any], seed: int) -> Recipe:
    try:
        loaded = load_recipe(recipe, {**settings, "seed": seed})
    except ConfigError as error:
        raise ConfigError(f"variant {variant.name!r}: {error}") from None
    if loaded.evaluate is None:
        raise ConfigError(f"variant {variant.name!r}: the recipe has no evaluate, so nothing would be measured")
    judged = [*loaded.evaluate.generators(list(models(loaded))), *loaded.evaluate.folders]
    if variant.model not in judged:
        raise ConfigError(f"variant {variant.name!r}: no model {variant.model!r}; the report has {', '.join(judged)}")
    return loaded


def forecast(runs: Mapping[Run, Recipe], store: str) -> list[Line]:
    """What is left of all runs, a step that several share once. Raises ConfigError with what would stop one of them."""
    left: dict[str, Line] = {}
    for run, recipe in runs.items():
        found = preflight(recipe, store, [GOAL])
        stops = [str(problem) for problem in found.problems if problem.weight == "stops"]
        if stops:
            raise ConfigError(f"variant {run.variant!r}, seed {run.seed}: " + "; ".join(stops))
        keys = step_keys(recipe)
        left |= {keys[line.step.name]: line for line in found.lines if line.found.state != "sealed"}
    return list(left.values())


def step_keys(recipe: Recipe) -> dict[str, str]:
    """For each step of a run a digest of all that its version depends on, known before anything is made."""
    keys: dict[str, str] = {}
    for one in until(steps_of(recipe), [GOAL]):
        keys[one.name] = _key(one, keys, recipe.seed)
    return keys


def _key(one: Step, keys: Mapping[str, str], seed: int) -> str:
    return content_id(one.stage, one.config.content(), [keys[name] for name in inputs(one)], list(one.labels), seed)


def make_all(runs: Mapping[Run, Recipe], make: Callable[[Run, Recipe], ArtifactRef]) -> dict[Run, ArtifactRef]:
    """The report of every run. All variants of one seed, then those of the next: a part of the seeds is whole.

    One that fails keeps none of the others from its report. Raises RunsFailed that names all that failed.
    """
    ordered = sorted(runs, key=lambda run: [*dict.fromkeys(one.seed for one in runs)].index(run.seed))
    made: dict[Run, ArtifactRef] = {}
    failed: list[str] = []
    for run in ordered:
        try:
            made[run] = make(run, runs[run])
        except LightgenError as error:
            failed.append(f"variant {run.variant!r}, seed {run.seed}: {error}")
    if failed:
        raise RunsFailed(
            f"{len(failed)} of {len(runs)} runs have no report, so there is no page: {'; '.join(failed)}. The others "
            "are sealed and found again: correct or leave out what failed, and run the same command"
        )
    return {run: made[run] for run in runs}


def figures(recipe: str, ablation: Ablation, made: Made, store: Store) -> Figures:
    """Figures over the reports of all runs, each of which must be there."""
    measured = [
        one
        for variant in ablation.variants
        for run, ref in made.items()
        if run.variant == variant.name
        for one in _measured(variant, run, ref, store)
    ]
    return Figures(
        ablation=ablation, recipe=recipe, seconds=_seconds(made.values(), store), measured=measured,
        pooled=pool(ablation, measured),
    )  # fmt: skip


def _measured(variant: Variant, run: Run, ref: ArtifactRef, store: Store) -> Iterator[Measured]:
    report = Report.model_validate_json(store.open(ref).file("report.json").read_bytes())
    model = next(one for one in report.models if one.name == variant.model)
    scores: dict[str, Interval] = {OVERALL: model.overall, **model.tasks}
    for task, one in scores.items():
        yield Measured(
            variant=variant.name, curve=variant.curve, x=variant.x, seed=run.seed, task=task, mean=one.mean,
            low=one.low, high=one.high, report=ref.version,
        )  # fmt: skip


def pool(ablation: Ablation, measured: Sequence[Measured]) -> list[Pooled]:
    """Mean and interval over the seeds of each variant and task, in the order of the variants."""
    first = ablation.variants[0].name
    found: dict[tuple[str, str], dict[int, Measured]] = {}
    for one in measured:
        found.setdefault((one.task, one.variant), {})[one.seed] = one
    return [_pooled(of_seed, found[task, first]) for (task, _), of_seed in found.items()]


def _pooled(of_seed: Mapping[int, Measured], base: Mapping[int, Measured]) -> Pooled:
    one = next(iter(of_seed.values()))
    mean, low, high = interval([each.mean for each in of_seed.values()])
    gain, least, most = interval([each.mean - base[seed].mean for seed, each in of_seed.items()])
    return Pooled(
        variant=one.variant, curve=one.curve, x=one.x, task=one.task, seeds=len(of_seed), mean=mean, low=low, high=high,
        difference=gain, difference_low=least, difference_high=most,
    )  # fmt: skip


def interval(values: Sequence[float]) -> tuple[float, float | None, float | None]:
    """Mean, and Student's 95 % interval of it; None where there is one value."""
    mean = fmean(values)
    if len(values) < 2:
        return mean, None, None
    half = float(student_t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * stdev(values) / math.sqrt(len(values))
    return mean, mean - half, mean + half


def _seconds(reports: Iterable[ArtifactRef], store: Store) -> float:
    return sum(step(version).seconds for version in ancestors(list(reports), store))
