"""The `lightgen` command: looks into a store, draws with a checkpoint, and measures."""

import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lightgen.errors import ConfigError, InputCorrupt, LightgenError
from lightgen.progress import duration
from lightgen.settings import default_store
from lightgen.storage import inspect
from lightgen.storage.store import open_store
from lightgen.storage.verify import verify as verify_store

if TYPE_CHECKING:
    import numpy as np

    from lightgen.model.sampling import SampleConfig
    from lightgen.stages.sampling import Sampler
    from lightgen.training.bench import Rate

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
out = Console(highlight=False, soft_wrap=True)

StoreOption = Annotated[
    str, typer.Option("--store", help="a folder or s3://bucket/prefix", default_factory=default_store)
]
RefArgument = Annotated[str, typer.Argument(help="kind@latest, kind@3, kind@<digest prefix> or kind@tag:name")]


@app.command("ls")
def list_versions(
    store: StoreOption, kind: Annotated[str | None, typer.Argument(help="captions, images, checkpoint, ...")] = None
) -> None:
    """List the versions of a store, oldest first."""
    table = Table("version", "ref", "fingerprint", "rows", "bytes", "age", "tags", box=None, header_style="bold")
    for line in inspect.list_versions(open_store(store), kind):
        table.add_row(
            line.version[:12],
            f"{line.kind}@{line.n}",
            line.fingerprint[:12],
            f"{line.rows:,}",
            f"{line.bytes:,}",
            duration(line.age.total_seconds()),
            escape(", ".join([*line.tags, *(["retired"] if line.retired else [])])),
        )
    out.print(table if table.row_count else "nothing is published in this store yet")


@app.command()
def show(ref: RefArgument, store: StoreOption) -> None:
    """Show one version: recipe, parents, rows, rejects by reason, columns, files."""
    shown = inspect.show(open_store(store), ref)
    rejected = shown.rows_in - shown.rows_out
    facts = {
        "version": f"{shown.ref.kind}@{shown.ref.version}",
        "fingerprint": shown.ref.fingerprint,
        "tags": ", ".join(shown.tags) or "none",
        "stage": f"{shown.stage}, seed {shown.seed}, {shown.n_shards} shards, {shown.seconds:,.1f} s",
        "rows": f"{shown.rows_in:,} in = {shown.rows_out:,} out + {rejected:,} rejected",
        "bytes": f"{shown.bytes:,}",
        "parents": ", ".join(str(parent) for parent in shown.parents) or "none",
    }
    for name, value in facts.items():
        out.print(f"[bold]{name:<12}[/] {escape(value)}")
    for reason, count in sorted(shown.reject_reasons.items(), key=lambda item: -item[1]):
        out.print(f"  rejected  {count:>8,}  {escape(reason)}")
    for column, kind, meaning in shown.columns:
        note = ", ".join(f"{key} {value}" for key, value in meaning.items())
        out.print(f"  column    {escape(column):<16} {escape(kind):<12} {escape(note)}")
    for file in shown.files:
        out.print(f"  file      {escape(file)}")
    for name, value in (("config", shown.config), ("models", shown.models)):
        out.print(f"[bold]{name}[/]")
        out.print_json(json.dumps(value))


@app.command()
def verify(
    store: StoreOption,
    ref: Annotated[str | None, typer.Argument(help="one version; leave out with --all")] = None,
    everything: Annotated[bool, typer.Option("--all", help="every version and every log")] = False,
) -> None:
    """Read every byte again and compare with the manifests; exit 1 names what is damaged."""
    if (ref is None) != everything:
        raise ConfigError("verify: give one REF, or --all")
    problems = verify_store(open_store(store), ref)
    for problem in problems:
        out.print(f"[red]damaged[/] {escape(str(problem))}")
    if problems:
        raise typer.Exit(1)
    out.print(f"[green]sound[/] {escape(ref or store)}")


@app.command()
def tag(
    ref: RefArgument, name: Annotated[str, typer.Argument(help="the newest use of a name wins")], store: StoreOption
) -> None:
    """Give a version a name, for `kind@tag:name`; a tagged version is never collected."""
    open_store(store).tag(ref, name)
    out.print(f"tagged {escape(ref)} {escape(name)}")


@app.command()
def retire(ref: RefArgument, store: StoreOption) -> None:
    """Take a version out of `latest`; `gc` may collect it unless something younger or tagged was made from it."""
    open_store(store).retire(ref)
    out.print(f"retired {escape(ref)}")


@app.command("gc")
def collect_garbage(
    store: StoreOption,
    grace_days: Annotated[float, typer.Option(min=0, help="nothing younger goes; longer than the longest run")] = 14.0,
    apply: Annotated[bool, typer.Option("--apply", help="delete; without it only print")] = False,
) -> None:
    """List (or delete) what nothing needs: retired versions, unfinished ones, files that no receipt names."""
    from lightgen.storage.collect import collect, find_garbage

    opened = open_store(store)
    garbage = find_garbage(opened, grace_days)
    for one in garbage:
        out.print(f"{one.bytes:>14,}  {escape(one.why):<20}  {escape(one.key)}")
    tombstone = collect(opened, garbage) if apply else None
    done = f"deleted; listed in {tombstone}" if tombstone else "to delete" if garbage else "nothing to delete"
    out.print(f"{len(garbage):,} files, {sum(one.bytes for one in garbage):,} bytes: {done}")


@app.command()
def diff(a: RefArgument, b: RefArgument, store: StoreOption) -> None:
    """Rows that are only in A, only in B, or changed."""
    found = inspect.diff(open_store(store), a, b)
    for sign, keys in (("+", found.added), ("-", found.removed), ("~", found.changed)):
        for key in keys[:20]:
            out.print(f"{sign} {escape(key)}")
        if len(keys) > 20:
            out.print(f"{sign} ... and {len(keys) - 20:,} more")
    out.print(f"{len(found.added):,} added, {len(found.removed):,} removed, {len(found.changed):,} changed")


@app.command()
def trace(id: Annotated[str, typer.Argument(help="id of a row")], store: StoreOption) -> None:
    """Follow a row: caption, prompt, image, features, and the checkpoints that saw it; rejected rows are found too."""
    for step in inspect.trace(open_store(store), id):
        values = ", ".join(f"{name} {value}" for name, value in step.row.items() if name != "id")
        where = f"{step.ref}" if step.shard is None else f"{step.ref} shard {step.shard}"
        out.print(f"[bold]{where}[/]  {step.outcome}  {escape(str(step.row.get('id', '')))}  {escape(values)}")


@app.command()
def gallery(
    ref: RefArgument,
    store: StoreOption,
    to: Annotated[Path | None, typer.Option("--to", help="file to write; by default KIND-DIGEST.html here")] = None,
    limit: Annotated[int, typer.Option(min=1, help="rows on the page")] = 120,
) -> None:
    """Write one self-contained HTML page about a version."""
    from lightgen.stages.gallery import gallery as page

    opened = open_store(store)
    version = opened.open(ref)
    path = to or Path(f"{version.ref.kind}-{version.ref.version[:12]}.html")
    path.write_text(page(version, opened, limit), encoding="utf-8")
    out.print(f"wrote {escape(str(path))}")


@app.command()
def generate(
    checkpoint: RefArgument,
    captions: Annotated[list[str], typer.Argument(help="what to draw")],
    store: StoreOption,
    to: Annotated[Path, typer.Option("--to", help="PNG to write")] = Path("generated.png"),
    samples: Annotated[int, typer.Option(min=1, max=64, help="images of each caption")] = 4,
    seed: Annotated[int, typer.Option(help="of the first image")] = 0,
    scale: Annotated[int, typer.Option(min=1, max=16, help="enlarge the pixels by this factor")] = 4,
    guidance: Annotated[float | None, typer.Option(help="strength of the caption; 1 is none")] = None,
    height: Annotated[int | None, typer.Option(min=1, help="px; by default the size trained on")] = None,
    width: Annotated[int | None, typer.Option(min=1, help="px")] = None,
) -> None:
    """Draw captions with a student; one row a caption."""
    from lightgen.stages.sampling import contact_sheet

    sampler, config = _sampler(checkpoint, store)
    if guidance is not None:
        config = config.model_copy(update={"guidance": guidance})
    seeds = [seed + sample for _ in captions for sample in range(samples)]
    wanted = [caption for caption in captions for _ in range(samples)]
    images = sampler.images(wanted, seeds, config, height, width)
    to.write_bytes(contact_sheet(images, samples, scale * images.shape[1]))
    size = f"{images.shape[2]} x {images.shape[1]}"
    out.print(f"wrote {escape(str(to))}: {len(captions)} x {samples} images of {size} px")


def _sampler(checkpoint: str, store: str) -> "tuple[Sampler, SampleConfig]":
    """What draws with a checkpoint, and how it was told to draw when it was trained."""
    from lightgen.model.sampling import SampleConfig
    from lightgen.stages.sampling import Sampler

    opened = open_store(store)
    version = opened.open(checkpoint)
    if version.ref.kind != "checkpoint":
        raise ConfigError(f"{checkpoint} is of kind {version.ref.kind}; give a checkpoint")
    config = SampleConfig.model_validate(version.plan.config["samples"])
    return Sampler.from_checkpoint(version, opened), config


@app.command("inpaint")
def inpaint_picture(
    checkpoint: RefArgument,
    image: Annotated[Path, typer.Argument(help="picture to change", exists=True, dir_okay=False)],
    mask: Annotated[Path, typer.Argument(help="picture of its size; what is white is drawn anew", exists=True)],
    caption: Annotated[str, typer.Argument(help="what the whole picture shows")],
    store: StoreOption,
    to: Annotated[Path, typer.Option("--to", help="PNG to write")] = Path("inpainted.png"),
    samples: Annotated[int, typer.Option(min=1, max=64)] = 4,
    seed: Annotated[int, typer.Option(help="of the first image")] = 0,
) -> None:
    """Draw the masked part of a picture anew; every other pixel stays as it is."""
    from lightgen.stages.inpainting import inpaint
    from lightgen.stages.sampling import contact_sheet

    sampler, config = _sampler(checkpoint, store)
    pixels, white = _pixels(image), _pixels(mask).mean(axis=2) >= 128
    drawn = inpaint(sampler, pixels, white, [caption] * samples, list(range(seed, seed + samples)), config)
    to.write_bytes(contact_sheet(drawn, samples))
    out.print(f"wrote {escape(str(to))}: {samples} pictures, {white.mean():.0%} of each drawn anew")


@app.command()
def export(
    checkpoint: RefArgument, folder: Annotated[Path, typer.Argument(help="new or empty folder")], store: StoreOption
) -> None:
    """Write a student with its encoders as one folder, for `LightGenPipeline.from_pretrained`."""
    from lightgen.pipeline import LightGenPipeline

    LightGenPipeline.from_checkpoint(store, checkpoint).save_pretrained(folder)
    out.print(f"wrote {escape(str(folder))}")


def _pixels(path: Path) -> "np.ndarray":
    """The picture in a file as uint8 [h, w, 3]."""
    from lightgen.storage.pixels import BadImage, decode_image

    found = decode_image(path.read_bytes())
    if isinstance(found, BadImage):
        raise InputCorrupt(f"{path}: {found.reason} ({found.detail})")
    return found


bench = typer.Typer(no_args_is_help=True, help="Measure parts against a baseline, both in the same run.")
app.add_typer(bench, name="bench")


@bench.command("dedup")
def bench_dedup(rows: Annotated[int, typer.Option(min=100, help="captions")] = 50_000) -> None:
    """Near-duplicate captions: ours against datasketch."""
    from lightgen.diversity.bench import bench_near_duplicates

    found = bench_near_duplicates(rows)
    _rates({"lightgen": found["ours_per_s"], "datasketch": found["datasketch_per_s"]}, "captions/s")


@bench.command("shards")
def bench_shards(rows: Annotated[int, typer.Option(min=10, help="samples of 64 KiB")] = 2_000) -> None:
    """Writing tar shards: ours against webdataset's ShardWriter."""
    from lightgen.storage.bench import tar_rates

    _rates(tar_rates(rows), "samples/s")


PresetOption = Annotated[str, typer.Option(help="a named size of the student")]


@bench.command("train")
def bench_train(
    preset: PresetOption = "ci-small",
    size_px: Annotated[int, typer.Option(min=16, help="of images under a VAE of 8 px a latent")] = 256,
    batch: Annotated[int, typer.Option(min=1)] = 8,
    steps: Annotated[int, typer.Option(min=1)] = 5,
) -> None:
    """Training steps on random features: ours against the published code's way."""
    from lightgen.training.bench import bench_train as measure

    _table_of_rates(measure(preset, size_px, batch, steps))
    out.print(
        "FLOPs: lightgen/model/flops.py; MFU: over the faster of bf16 and fp32 matrix products, measured in this run"
    )


@bench.command("sample")
def bench_sample(
    preset: PresetOption = "ci-small",
    size_px: Annotated[int, typer.Option(min=16)] = 256,
    batch: Annotated[int, typer.Option(min=1)] = 4,
    iterations: Annotated[int, typer.Option(min=1)] = 64,
    head_steps: Annotated[int, typer.Option(min=2)] = 100,
) -> None:
    """Whole images under guidance: ours against the published code's way."""
    from lightgen.training.bench import bench_sample as measure

    rates = measure(preset, size_px, batch, iterations, head_steps)
    _table_of_rates(rates)
    out.print(f"both draw the same images: no number is more than {rates[-1].difference:.2g} standard deviations apart")


@bench.command("loader")
def bench_loader(
    rows: Annotated[int, typer.Option(min=64, help="rows of features, 0.4 MB each, twice that for a baseline")] = 1500,
    workers: Annotated[int, typer.Option(min=1, help="processes that read ahead, at most")] = 2,
    batch: Annotated[int, typer.Option(min=1)] = 32,
    needs: Annotated[float, typer.Option(min=0, help="images/s that training takes, to compare with")] = 0,
) -> None:
    """Reading features at random: ours against pyarrow's row groups and a file for each sample."""
    from lightgen.training.bench_loader import bench_loader as measure

    rates = measure(rows, workers, batch)
    table = Table("way", "samples/s", "GB/s", "ours is", "x needed", box=None, header_style="bold")
    best = max(rate.rows_per_s for rate in rates[: workers + 1])
    for rate in rates:
        figures = (rate.gb_per_s, best / rate.rows_per_s)
        need = f"{rate.rows_per_s / needs:.1f}" if needs else ""
        table.add_row(rate.name, f"{rate.rows_per_s:,.0f}", *(f"{figure:.2f}" for figure in figures), need)
    out.print(table)


def _table_of_rates(rates: "list[Rate]") -> None:
    table = Table("way", "images/s", "TFLOP/s", "MFU", "peak GB", "ours is", box=None, header_style="bold")
    for rate in rates:
        counted = (f"{rate.tflops:.3f}", f"{rate.mfu:.1%}") if rate.tflops else ("", "")
        memory = f"{rate.memory_gb:.1f}" if rate.memory_gb else ""
        ratio = "" if rate is rates[0] else f"{rates[0].images_per_s / rate.images_per_s:.2f}x"
        table.add_row(rate.name, f"{rate.images_per_s:,.2f}", *counted, memory, ratio)
    out.print(table)


def _rates(rates: dict[str, float], unit: str) -> None:
    """Ours first, then the baselines, each with the ratio."""
    ours, *baselines = rates.items()
    out.print(f"{ours[0]:<28} {ours[1]:>12,.0f} {unit}")
    for name, rate in baselines:
        out.print(f"{name:<28} {rate:>12,.0f} {unit}   ours is {ours[1] / rate:.1f}x")


def main() -> None:
    """Entry point: an error of the user's is one line and exit code 2."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    try:
        app()
    except LightgenError as error:
        Console(stderr=True, highlight=False).print(f"[red]lightgen:[/] {escape(str(error))}")
        sys.exit(2)


if __name__ == "__main__":
    main()
