"""The command that takes over the authors' published weights."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from lightgen.cli.console import StoreOption, out
from lightgen.progress import Terminal

app = typer.Typer()
Dtype = Literal["float32", "bfloat16", "float16"]


@app.command("import-official")
def import_official(
    weights: Annotated[Path, typer.Argument(help="a .safetensors or .pth of the authors, or a folder with one")],
    store: StoreOption,
    vae: Annotated[str, typer.Option("--vae", help="folder or hub id of the VAE")] = (
        "stabilityai/stable-diffusion-3.5-large"
    ),
    vae_revision: Annotated[str | None, typer.Option("--vae-revision", help="commit, for a hub id")] = None,
    vae_subfolder: Annotated[str, typer.Option("--vae-subfolder")] = "vae",
    text: Annotated[str, typer.Option("--text", help="folder or hub id of the T5")] = "google/flan-t5-xxl",
    text_revision: Annotated[str | None, typer.Option("--text-revision", help="commit, for a hub id")] = None,
    text_dtype: Annotated[Dtype, typer.Option("--text-dtype", help="published: float32; bfloat16 is half as large")] = (
        "float32"
    ),
    max_tokens: Annotated[int, typer.Option("--max-tokens", min=1, help="to which every caption is padded")] = 128,
    size: Annotated[int, typer.Option("--size", min=1, help="px of the images it was trained on last")] = 512,
    which: Annotated[Literal["model", "model_ema"], typer.Option("--weights", help="of a .pth")] = "model",
    heads: Annotated[
        int | None, typer.Option("--heads", min=1, help="for a width that the authors do not have")
    ] = None,
) -> None:
    """Read the authors' published weights into a checkpoint: to draw with, to align, to export."""
    from lightgen.encoders.diffusers_vae import DiffusersVaeConfig
    from lightgen.encoders.t5 import T5Config
    from lightgen.operations.official import OfficialConfig
    from lightgen.operations.official import import_official as run
    from lightgen.storage.store import open_or_create
    from lightgen.work import Context

    config = OfficialConfig(
        path=str(weights), weights=which, heads=heads, size_px=size,
        vae=DiffusersVaeConfig(model=vae, revision=vae_revision, subfolder=vae_subfolder),
        # Vectors were not rounded when these weights were trained: float16 keeps three bits more than bfloat16.
        text=T5Config(
            model=text, revision=text_revision, max_tokens=max_tokens, dtype=text_dtype, storage="float16", padded=True
        ),
    )  # fmt: skip
    made = run(config, Context(open_or_create(store), progress=Terminal()))
    out.print(f"{made}  {made.rows // 2:,} tensors")
