"""What all commands share: where they print, and options that mean the same everywhere."""

from typing import Annotated

import typer
from rich.console import Console

from lightgen.settings import Device, default_store

out = Console(highlight=False, soft_wrap=True)

StoreOption = Annotated[
    str, typer.Option("--store", help="a folder or s3://bucket/prefix", default_factory=default_store)
]
RefArgument = Annotated[str, typer.Argument(help="kind@latest, kind@3, kind@<digest prefix> or kind@tag:name")]
DeviceOption = Annotated[Device, typer.Option("--device", help="auto: the GPU where there is one")]
