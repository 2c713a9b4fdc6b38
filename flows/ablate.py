"""Flow `ablate`: variants of a recipe, each with several seeds → reports → one page of curves."""

from typing import Annotated

from prefect import flow
from pydantic import Field

from flows.parameters import Job, Overrides, RecipeName, StoreAddress, refer_to, run_name
from lightgen.operations.ablation import GOAL, Run, figures, forecast, load_ablation, make_all, recipes_of
from lightgen.pages.ablation import write_ablation
from lightgen.recipe import Recipe
from lightgen.settings import default_store
from lightgen.storage.store import open_store
from schemas.ref import ArtifactRef

AblationName = Annotated[str, Field(description="a name in recipes/ablations/, or the path of a file of variants")]


@flow(name="ablate", flow_run_name=run_name, persist_result=False)
def ablate(
    recipe: RecipeName = "ablations/base",
    overrides: Overrides = None,
    store: StoreAddress = None,
    ablation: AblationName = "decoding",
) -> dict[str, ArtifactRef]:
    """Make the report of every variant and seed, then the page of their curves; what variants share is made once."""
    found, place = load_ablation(ablation), store or default_store()
    runs = recipes_of(recipe, found, overrides)
    forecast(runs, place)  # a variant that would not come to its end is refused before the first step of any

    def make(_: Run, loaded: Recipe) -> ArtifactRef:
        return Job(loaded, place).make(GOAL)[GOAL]

    made = make_all(runs, make)
    opened = open_store(place)
    write_ablation(figures(recipe, found, made, opened), opened)
    return {f"{run.variant}, seed {run.seed}": ref for run, ref in made.items()}


if __name__ == "__main__":
    refer_to("ablate", "--param recipe=demo --param ablation=decoding", "ablate demo decoding")
