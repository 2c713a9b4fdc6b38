"""Commands that write and read GenEval's folders, so that its evaluator and ours can judge the same pictures."""

from pathlib import Path
from typing import Annotated

import typer

from lightgen.cli.console import RefArgument, StoreOption, out
from lightgen.progress import Terminal

app = typer.Typer(no_args_is_help=True, help=__doc__)


@app.command("export")
def export_folder(
    ref: RefArgument,
    metadata: Annotated[str, typer.Argument(help="GenEval's evaluation_metadata.jsonl; - where captions are scenes")],
    folder: Annotated[Path, typer.Argument(help="a new folder")],
    store: StoreOption,
) -> None:
    """Write IMAGES as GenEval's evaluator reads them: 00000/metadata.jsonl and 00000/samples/0000.png."""
    from lightgen.operations.geneval import export
    from lightgen.storage.store import open_store

    done = export(open_store(store).open(ref), None if metadata == "-" else metadata, folder)
    out.print(f"{folder}: {done.images:,} images of {done.prompts:,} prompts")
    if done.without_images:
        out.print(f"{done.without_images:,} prompts of the metadata have no image, and no folder")
    if done.unknown:
        out.print(f"{done.unknown:,} images have captions that the metadata do not know, and were left out")


@app.command("import")
def import_folder(
    folder: Annotated[Path, typer.Argument(help="as GenEval lays it out")],
    store: StoreOption,
    licence: Annotated[str, typer.Option(help="of the pictures")] = "unknown",
) -> None:
    """Seal the PROMPTS and IMAGES of a GenEval folder that anybody drew."""
    from lightgen.stages.adopt import AdoptConfig, adopt
    from lightgen.storage.store import open_or_create
    from lightgen.work import Context

    opened = open_or_create(store)
    config = AdoptConfig(folder=str(folder), licence=licence)
    prompts, images = adopt(config, Context(opened, progress=Terminal()))
    for ref in (prompts, images):
        out.print(f"{ref}: {ref.rows:,} rows")


@app.command()
def judge(
    prompts: RefArgument,
    images: RefArgument,
    detector: Annotated[str, typer.Argument(help="settings of a scorer, as in a recipe: '{kind: mask2former, …}'")],
    store: StoreOption,
    name: Annotated[str, typer.Option(help="of the model in the report")] = "model",
) -> None:
    """Score imported IMAGES and seal a REPORT on them, by the rules that judge our own."""
    from lightgen.operations.geneval import judge as judged
    from lightgen.operations.geneval import read_detector
    from lightgen.pages.evaluation import read_report
    from lightgen.pages.scores import score_table
    from lightgen.storage.store import open_store
    from lightgen.work import Context

    opened = open_store(store)
    context = Context(opened, progress=Terminal())
    ref = judged(opened.open(prompts), opened.open(images).ref, read_detector(detector), name, context)
    out.print(str(ref))
    for line in score_table(read_report(opened.open(ref))):
        out.print("  ".join(line))
