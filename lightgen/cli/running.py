"""Commands that run recipes, whole or in part, without a server."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from lightgen.cli.console import JsonOption, StoreOption, out, print_json
from lightgen.errors import ConfigError
from lightgen.progress import Terminal
from lightgen.recipe_yaml import read_value

if TYPE_CHECKING:
    from lightgen.operations.recut import Cut
    from schemas.ref import ArtifactRef

app = typer.Typer()
RecipeArgument = Annotated[str, typer.Argument(help="a name in recipes/, or the path of a recipe file")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="change a setting: generate.size_px=64")
]
UntilOption = Annotated[
    list[str] | None, typer.Option("--until", help="a step or a stage, and what it needs; without it, the whole recipe")
]


@app.command()
def run(
    recipe: RecipeArgument,
    store: StoreOption,
    until: UntilOption = None,
    settings: SetOption = None,
    redraw: Annotated[bool, typer.Option("--redraw", help="draw images again that `gc --evict` deleted")] = False,
) -> None:
    """Make what a recipe describes, step after step. What is there already is found, not made again."""
    _show(_made(recipe, store, until, settings, redraw))


@app.command()
def work(recipe: RecipeArgument, store: StoreOption, until: UntilOption = None, settings: SetOption = None) -> None:
    """Join the run of a recipe, on any machine that sees the store: take shards that nobody else has."""
    _show(_made(recipe, store, until, settings))


def _made(
    recipe: str, store: str, until: list[str] | None, settings: list[str] | None, redraw: bool = False
) -> "dict[str, ArtifactRef]":
    from lightgen.operations.preflight import check
    from lightgen.operations.run import run_recipe
    from lightgen.recipe import load_recipe
    from lightgen.storage.store import open_or_create

    loaded = load_recipe(recipe, overrides_of(settings or []))
    check(loaded, store, until or [])
    return run_recipe(loaded, open_or_create(store), until or [], Terminal(), redraw)


def _show(made: "dict[str, ArtifactRef]") -> None:
    from lightgen.storage.store import open_store

    for name, ref in made.items():
        reused = open_store(ref.uri).open(ref).rows_reused
        out.print(f"{name:<28} {ref}  {ref.rows:,} rows{f', {reused:,} of them taken over' if reused else ''}")


@app.command()
def recut(
    recipe: RecipeArgument,
    store: StoreOption,
    settings: SetOption = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="keep the new selection as a version; without it only show it")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what other rules would keep of the images that are scored. No image is opened, and it takes seconds."""
    from lightgen.operations.recut import recut as cut_again
    from lightgen.operations.recut import seal
    from lightgen.recipe import load_recipe
    from lightgen.storage.store import open_store

    opened, other = open_store(store), load_recipe(recipe, overrides_of(settings or []))
    found = cut_again(load_recipe(recipe), other, opened)
    sealed = seal(found, other, opened) if apply else None
    if as_json:
        cuts = {name: [vars(one) for one in getattr(found, name)] for name in ("before", "after")}
        print_json({"images": found.images.rows, **cuts, "sealed": str(sealed) if sealed else None})
        return
    _show_cut(found)
    if sealed:
        out.print(f"sealed {sealed}")


def _show_cut(cut: "Cut") -> None:
    """Both decisions side by side, rule by rule."""
    table = Table("rule", "kept by the recipe", "kept with the change", box=None, header_style="bold")
    table.add_row("all images", f"{cut.images.rows:,}", f"{cut.images.rows:,}")
    before, after = ({one.step: one for one in cuts} for cuts in (cut.before, cut.after))
    for step in dict.fromkeys([*after, *before]):
        table.add_row(step, *(f"{cuts[step].after:,}" if step in cuts else "" for cuts in (before, after)))
    out.print(table)


def overrides_of(settings: list[str]) -> dict[str, object]:
    """`key=value` texts as overrides of a recipe; values are YAML. Raises ConfigError."""
    pairs = [text.partition("=") for text in settings]
    wrong = [key for key, equals, _ in pairs if not equals]
    if wrong:
        raise ConfigError(f"--set {wrong[0]}: write KEY=VALUE, for example --set generate.size_px=64")
    return {key: read_value(value) for key, _, value in pairs}
