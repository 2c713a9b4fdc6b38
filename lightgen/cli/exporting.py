"""`lightgen export`: a version as a folder that other people's programs read."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from lightgen.cli.console import RefArgument, StoreOption, out
from lightgen.errors import ConfigError
from lightgen.export.facts import Export, Format
from lightgen.export.folder import export_dataset
from lightgen.progress import Terminal
from lightgen.storage.store import open_store

app = typer.Typer()
MB = 1_000_000


@app.command()
def export(
    ref: RefArgument,
    folder: Annotated[str, typer.Argument(help="new or empty folder; of a dataset s3://bucket/prefix too")],
    store: StoreOption,
    text_encoder: Annotated[
        bool,
        typer.Option(
            "--text-encoder", help="of a checkpoint: copy a T5 too; else it is loaded from where it was found"
        ),
    ] = False,
    format: Annotated[Format, typer.Option("--format", help="of a dataset")] = "parquet",
    split: Annotated[str, typer.Option("--split", help="what its rows are for: train, validation, test")] = "train",
    file_mb: Annotated[
        int,
        typer.Option("--file-mb", min=1, help="a file ends before it passes this, if no shard of the store does alone"),
    ] = 500,
    name: Annotated[str, typer.Option("--name", help="of the dataset; default: lightgen-KIND-DIGEST")] = "",
    licence: Annotated[
        str, typer.Option("--licence", help="of the whole; default: what the corpora were said to have")
    ] = "",
    by: Annotated[str, typer.Option("--by", help="who publishes it")] = "",
    url: Annotated[str, typer.Option("--url", help="where it will lie")] = "",
) -> None:
    """Write a student as a folder of diffusers, or any rows as a dataset: Parquet or WebDataset, card and Croissant."""
    opened = open_store(store)
    version = opened.open(ref)
    how = Export(format, split, file_mb * MB, name, licence, by, url)
    if version.ref.kind == "checkpoint":
        if how != Export(file_bytes=how.file_bytes):
            raise ConfigError(f"{version.ref} is a student: options that tell of a dataset have no meaning")
        _student(ref, Path(folder), store, text_encoder)
        out.print(f"wrote {escape(folder)}")
        return
    if text_encoder:
        raise ConfigError(f"{version.ref} is no student: --text-encoder has no meaning")
    facts = export_dataset(version, opened, folder, how, Terminal())
    size = f"{facts.rows:,} rows, {len(facts.files):,} files, {facts.bytes:,} bytes"
    out.print(f"wrote {escape(folder)}: {escape(facts.name)}, {size}, licence {escape(facts.licence)}")
    if not licence and facts.licence in ("other", "unknown"):
        out.print(
            f"corpora have licence {escape(', '.join(facts.licences) or 'unknown')}; --licence says what holds for all"
        )


def _student(ref: str, folder: Path, store: str, text_encoder: bool) -> None:
    from lightgen.pipeline import LightGenPipeline

    if str(folder).startswith("s3:"):
        raise ConfigError(f"{ref} is a student, which is written to a folder; copy that to S3")
    pipeline = LightGenPipeline.from_checkpoint(store, ref)
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ConfigError(f"{folder} is not an empty folder; nothing was written")
    if text_encoder:
        pipeline.load_text_encoder()
    pipeline.save_pretrained(folder)
