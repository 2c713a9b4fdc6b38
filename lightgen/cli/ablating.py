"""The command that runs the variants of an ablation and draws their curves."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lightgen.cli.console import StoreOption, out
from lightgen.cli.running import RecipeArgument, SetOption, overrides_of
from lightgen.progress import Terminal, duration

if TYPE_CHECKING:
    from lightgen.operations.outlook import Line
    from lightgen.recipe import Recipe
    from schemas.ref import ArtifactRef

app = typer.Typer()


@app.command()
def ablate(
    recipe: RecipeArgument,
    ablation: Annotated[str, typer.Argument(help="a name in recipes/ablations/, or the path of a file of variants")],
    store: StoreOption,
    settings: SetOption = None,
    to: Annotated[Path | None, typer.Option("--to", help="folder of page and figures; default: STORE/pages")] = None,
) -> None:
    """Run every variant of a recipe with every seed, and write one page of curves; what is sealed is found again."""
    from lightgen.operations.ablation import GOAL, Run, figures, forecast, load_ablation, make_all, recipes_of
    from lightgen.operations.run import run_recipe
    from lightgen.pages.ablation import write_ablation
    from lightgen.storage.store import open_or_create

    found, changes = load_ablation(ablation), overrides_of(settings or [])
    runs = recipes_of(recipe, found, changes)
    out.print(_outlook(len(runs), forecast(runs, store)))
    opened = open_or_create(store)

    def make(run: Run, loaded: "Recipe") -> "ArtifactRef":
        out.print(f"{run.variant}, seed {run.seed}", style="bold")
        return run_recipe(loaded, opened, [GOAL], Terminal())[GOAL]

    made = make_all(runs, make)
    for path in write_ablation(figures(recipe, found, made, opened), opened, to):
        out.print(f"wrote {path}")


def _outlook(runs: int, left: "list[Line]") -> str:
    """Runs, what is left of them, and how much of that can be told."""
    known = sum(line.seconds or 0.0 for line in left)
    unknown = sum(line.seconds is None for line in left)
    without = f", and {unknown} steps without a figure" if unknown else ""
    return f"{runs} runs; left: {len(left)} steps, each once, about {duration(known)} on this machine{without}"
