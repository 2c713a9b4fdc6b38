"""The `lightgen` command: makes what a recipe describes, looks into a store, draws with a student, and measures."""

import logging
import sys
from importlib import metadata
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from lightgen.cli import (
    ablating,
    bench,
    drawing,
    exporting,
    fetching,
    geneval,
    official,
    planning,
    reading,
    rows,
    running,
    tidying,
    training,
    volume,
)
from lightgen.errors import LightgenError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
parts = (
    planning, volume, running, ablating, reading, rows, tidying, fetching, drawing, exporting, training, official,
)  # fmt: skip
for part in parts:
    app.add_typer(part.app)
app.add_typer(bench.app, name="bench")
app.add_typer(geneval.app, name="geneval")


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"lightgen {metadata.version('lightgen-distill')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print it, and no more")
    ] = False,
) -> None:
    """See the module."""


def main() -> None:
    """Entry point: an error of the user's is one line and exit code 2."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    try:
        app()
    except LightgenError as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"[red]lightgen:[/] {escape(str(error))}")
        sys.exit(2)
