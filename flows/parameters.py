"""Parameters that every flow takes, as the form in the Prefect page shows them, and what a flow makes of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn

from prefect.runtime import flow_run
from pydantic import Field

from lightgen.engines.engine import open_engine
from lightgen.operations.step import Step, until, walk
from lightgen.operations.steps import steps_of
from lightgen.recipe import Recipe, load_recipe
from lightgen.settings import default_store
from schemas.ref import ArtifactRef
from tasks.run import Place
from tasks.stages import TASKS, check_recipe

RecipeName = Annotated[str, Field(description="a name in recipes/, or the path of a recipe file")]
Overrides = Annotated[
    dict[str, Any] | None, Field(description='settings to change, by dotted key: {"generate.size_px": 64}')
]
StoreAddress = Annotated[
    str | None, Field(description="a folder or s3://bucket/prefix; empty: LIGHTGEN_STORE, then ./store")
]


@dataclass(frozen=True)
class Job:
    """One recipe on one store."""

    recipe: Recipe
    store: str

    @classmethod
    def of(cls, recipe: str, overrides: dict[str, Any] | None, store: str | None) -> "Job":
        """Read the recipe; raises ConfigError naming file, key and allowed values."""
        return cls(load_recipe(recipe, overrides), store or default_store())

    def make(self, *goals: str) -> dict[str, ArtifactRef]:
        """Every step that `goals` need, in order; what is sealed already is found. Without goals: all.

        Raises ConfigError before the first, naming every problem that would stop one of them.
        """
        check_recipe(self.recipe, self.store, goals)
        with open_engine(self.recipe.run) as engine:
            place = Place(self.store, self.recipe.seed, self.recipe.run, engine)

            def call(step: Step, refs: list[ArtifactRef]) -> ArtifactRef:
                return TASKS[step.stage](step, refs, place)

            return walk(self.steps(goals), call)

    def steps(self, goals: Sequence[str] = ()) -> list[Step]:
        """What `goals` need, in order. Raises ConfigError where the recipe has none of them."""
        return until(steps_of(self.recipe), goals)


def refer(module: str, *goals: str) -> NoReturn:
    """End `python -m flows.<module>`, which only declares a flow, with the commands that run it."""
    refer_to(module, "--param recipe=demo", "run demo" + "".join(f" --until {goal}" for goal in goals))


def refer_to(module: str, parameters: str, command: str) -> NoReturn:
    """As `refer`, for a flow of other parameters or another command."""
    raise SystemExit(
        f"flows.{module} declares a flow and runs nothing. Run it under Prefect, after `make serve`:\n"
        f"  prefect deployment run {module.replace('_', '-')} {parameters}\n"
        f"or without a server:\n  lightgen {command}"
    )


def run_name() -> str:
    """Name of a flow run in Prefect's lists: the flow and its recipe."""
    recipe = str(flow_run.get_parameters().get("recipe", ""))
    return f"{flow_run.get_flow_name()} · {Path(recipe).stem}"
