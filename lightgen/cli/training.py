"""Commands that train."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from lightgen.cli.console import RefArgument, StoreOption, out
from lightgen.cli.running import RecipeArgument, SetOption, overrides_of
from lightgen.errors import ConfigError
from lightgen.progress import Terminal
from lightgen.storage.store import open_store
from lightgen.work import Context

if TYPE_CHECKING:
    from lightgen.operations.sweep import Exam, Tried
    from lightgen.recipe import Recipe

app = typer.Typer()
WIDTH = 150


@app.command()
def sweep(
    checkpoint: RefArgument,
    pairs: Annotated[str, typer.Argument(help="pairs@latest, ...")],
    store: StoreOption,
    rates: Annotated[str, typer.Option("--rates", help="learning rates, with commas between")] = "1e-8,1e-7,1e-6",
    recipe: Annotated[str, typer.Option("--recipe", help="whose align, test and evaluate count")] = "demo",
    judge: Annotated[bool, typer.Option("--judge", help="draw and judge the recipe's test captions too")] = False,
) -> None:
    """Align a student at several learning rates, and show accuracy, margins and scores side by side."""
    from lightgen.operations.sweep import sweep as run
    from lightgen.recipe import load_recipe

    settings, opened = load_recipe(recipe), open_store(store)
    if settings.align is None:
        raise ConfigError(f"recipe {recipe} has no align; give one that has")
    start, judged = opened.open(checkpoint).ref, opened.open(pairs).ref
    context = Context(opened, settings.seed, settings.run, Terminal())
    exam = _exam(settings, context) if judge else None
    found = run(start, judged, settings.align, _numbers(rates), context, exam)
    _table(found)


@app.command()
def job(recipe: RecipeArgument, store: StoreOption, settings: SetOption = None) -> None:
    """Print the training run that comes next as JSON, for a launcher of your own. Makes nothing."""
    from lightgen.operations.training_job import next_job
    from lightgen.recipe import load_recipe

    opened = open_store(store)
    found = next_job(load_recipe(recipe, overrides_of(settings or [])), opened)
    typer.echo(found.model_dump_json(indent=1))


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"--rates {text}: write numbers with commas between, for example 1e-7,1e-6") from None


def _exam(recipe: "Recipe", context: Context) -> "Exam":
    """The recipe's test captions, made where they are missing."""
    from lightgen.operations.stages import make
    from lightgen.operations.step import until, walk
    from lightgen.operations.steps import steps_of
    from lightgen.operations.sweep import Exam

    if recipe.test is None or recipe.evaluate is None:
        raise ConfigError(f"recipe {recipe.name} has no test captions, or no evaluate; leave out --judge")
    needed = until(steps_of(recipe), ["select-test"])
    made = walk(needed, lambda step, refs: make(step, refs, replace(context, role=step.role)))
    return Exam(made["select-test"], recipe.evaluate)


def _table(found: "list[Tried]") -> None:
    names = list(dict.fromkeys(name for one in found for name in one.health))
    scores = ["overall", "gain over the start"] if any(one.overall for one in found) else []
    table = Table("lr", *names, *scores, "checkpoint", box=None, header_style="bold")
    for one in found:
        health = [f"{one.health[name]:.3g}" if name in one.health else "" for name in names]
        spans = [(one.overall, ".3f"), (one.gain, "+.3f")] if scores else []
        told = [f"{span.mean:{form}} [{span.low:{form}}, {span.high:{form}}]" if span else "" for span, form in spans]
        table.add_row(f"{one.lr:g}" if one.lr else "start", *health, *told, str(one.checkpoint))
    # A number that is cut off is worth nothing: a narrow terminal wraps the lines.
    Console(file=out.file, width=max(out.width, WIDTH), highlight=False).print(table)
