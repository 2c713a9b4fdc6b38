"""A recipe run in this process, without a server: step after step, all on one engine."""

from collections.abc import Sequence
from dataclasses import replace

from lightgen.engines.engine import open_engine
from lightgen.operations.stages import make
from lightgen.operations.step import until, walk
from lightgen.operations.steps import steps_of
from lightgen.progress import SILENT, Progress
from lightgen.recipe import Recipe
from lightgen.storage.store import Store
from lightgen.work import Context
from schemas.ref import ArtifactRef


def run_recipe(
    recipe: Recipe, store: Store, goals: Sequence[str] = (), progress: Progress = SILENT, redraw: bool = False
) -> dict[str, ArtifactRef]:
    """The versions of all steps that `goals` need (without goals: of all), by name; what is sealed is found.

    Any number of processes that run one recipe on one store share its work. With `redraw` images that were evicted are
    drawn again. Raises LightgenError.
    """
    with open_engine(recipe.run) as engine:
        return _walk(recipe, goals, Context(store, recipe.seed, recipe.run, progress, engine=engine, redraw=redraw))


def find_recipe_versions(recipe: Recipe, store: Store, goals: Sequence[str]) -> dict[str, ArtifactRef]:
    """The sealed versions of all steps that `goals` need. Raises NotMade; makes nothing."""
    return _walk(recipe, goals, Context(store, recipe.seed, recipe.run, find_only=True))


def _walk(recipe: Recipe, goals: Sequence[str], context: Context) -> dict[str, ArtifactRef]:
    steps = until(steps_of(recipe), goals)
    return walk(steps, lambda step, refs: make(step, refs, replace(context, role=step.role)))
