"""What all commands share: where they print, and options that mean the same everywhere."""

import json
from typing import Annotated, Any

import typer
from rich.console import Console

from lightgen.settings import Device, default_store

out = Console(highlight=False, soft_wrap=True)

StoreOption = Annotated[
    str, typer.Option("--store", help="a folder or s3://bucket/prefix", default_factory=default_store)
]
RefArgument = Annotated[str, typer.Argument(help="kind@latest, kind@3, kind@<role>, kind@<digest> or kind@tag:name")]
DeviceOption = Annotated[Device, typer.Option("--device", help="auto: the GPU where there is one")]
JsonOption = Annotated[bool, typer.Option("--json", help="one JSON value in place of text")]


def print_json(value: Any) -> None:
    """Print one JSON value for programs; what JSON has no type for, such as a time, as text."""
    typer.echo(json.dumps(value, indent=1, default=str))
