"""Parameters that every flow takes, as the form in the Prefect page shows them, and what a flow makes of them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from prefect.runtime import flow_run
from pydantic import Field

from lightgen.errors import ConfigError
from lightgen.recipe import Recipe, load_recipe
from lightgen.settings import default_store

RecipeName = Annotated[str, Field(description="a name in recipes/, or the path of a recipe file")]
Overrides = Annotated[
    dict[str, Any] | None, Field(description='settings to change, by dotted key: {"generate.size_px": 64}')
]
StoreAddress = Annotated[
    str | None, Field(description="a folder or s3://bucket/prefix; empty: LIGHTGEN_STORE, then ./store")
]
Setting = TypeVar("Setting")


@dataclass(frozen=True)
class Job:
    """One recipe on one store."""

    recipe: Recipe
    store: str

    @classmethod
    def of(cls, recipe: str, overrides: dict[str, Any] | None, store: str | None) -> "Job":
        """Read the recipe; raises ConfigError naming file, key and allowed values."""
        return cls(load_recipe(recipe, overrides), store or default_store())

    @property
    def common(self) -> dict[str, Any]:
        """The arguments that every stage takes."""
        return {"store": self.store, "seed": self.recipe.seed}

    def part(self, name: str, value: Setting | None) -> Setting:
        """`value`, the part `name` of the recipe; raises ConfigError where the recipe has none."""
        if not value:
            raise ConfigError(
                f"recipe {self.recipe.name!r} has no `{name}`, which this flow needs: see recipes/demo.yaml"
            )
        return value


def run_name() -> str:
    """Name of a flow run in Prefect's lists: the flow and its recipe."""
    recipe = str(flow_run.get_parameters().get("recipe", ""))
    return f"{flow_run.get_flow_name()} · {Path(recipe).stem}"
