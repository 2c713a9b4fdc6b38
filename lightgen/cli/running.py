"""Commands that run recipes, whole or in part, without a server."""

from dataclasses import replace
from typing import Annotated

import typer
import yaml

from lightgen.cli.console import StoreOption, out
from lightgen.errors import ConfigError
from lightgen.progress import Terminal
from lightgen.work import Context

app = typer.Typer()
RecipeArgument = Annotated[str, typer.Argument(help="a name in recipes/, or the path of a recipe file")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="change a setting: generate.size_px=64")
]


@app.command()
def run(
    recipe: RecipeArgument,
    store: StoreOption,
    until: Annotated[
        list[str] | None, typer.Option("--until", help="a step or a stage; without it, the whole recipe")
    ] = None,
    settings: SetOption = None,
) -> None:
    """Make what a recipe describes, step after step; what is sealed already is found."""
    from lightgen.operations.stages import make
    from lightgen.operations.steps import steps_of, walk
    from lightgen.operations.steps import until as needed_for
    from lightgen.recipe import load_recipe
    from lightgen.storage.store import open_or_create

    loaded = load_recipe(recipe, overrides_of(settings or []))
    context = Context(open_or_create(store), loaded.seed, loaded.run, Terminal())
    steps = needed_for(steps_of(loaded), until or [])
    made = walk(steps, lambda step, refs: make(step, refs, replace(context, role=step.role)))
    for name, ref in made.items():
        out.print(f"{name:<28} {ref}  {ref.rows:,} rows")


def overrides_of(settings: list[str]) -> dict[str, object]:
    """`key=value` texts as overrides of a recipe; values are YAML. Raises ConfigError."""
    pairs = [text.partition("=") for text in settings]
    wrong = [key for key, equals, _ in pairs if not equals]
    if wrong:
        raise ConfigError(f"--set {wrong[0]}: write KEY=VALUE, for example --set generate.size_px=64")
    return {key: yaml.safe_load(value) for key, _, value in pairs}
