"""What all commands share: where they print, and options that mean the same everywhere."""

import json
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from lightgen.settings import Device, default_store

WIDEST = 1000  # characters of a line
out = Console(highlight=False, soft_wrap=True)

StoreOption = Annotated[
    str,
    typer.Option(
        "--store",
        help="a folder or s3://bucket/prefix; default: LIGHTGEN_STORE, then ./store",
        default_factory=default_store,
        show_default=False,
    ),
]
RefArgument = Annotated[str, typer.Argument(help="kind@latest, kind@3, kind@<role>, kind@<digest> or kind@tag:name")]
DeviceOption = Annotated[Device, typer.Option("--device", help="auto: the GPU where there is one")]
JsonOption = Annotated[bool, typer.Option("--json", help="one JSON value in place of text")]


def print_whole(table: Table | str) -> None:
    """Print a table that is never cut: a narrow terminal wraps its lines, and a file or pipe has them whole."""
    wanted = Measurement.get(out, out.options.update(width=WIDEST), table).maximum
    Console(file=out.file, highlight=False, width=max(out.width, wanted)).print(table)


def print_json(value: Any) -> None:
    """Print one JSON value for programs; what JSON has no type for, such as a time, as text."""
    typer.echo(json.dumps(value, indent=1, default=str))
