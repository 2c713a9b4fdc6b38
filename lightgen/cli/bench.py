"""Commands that measure."""

from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from lightgen.cli.console import StoreOption, out

if TYPE_CHECKING:
    from lightgen.bench.training import Rate

app = typer.Typer(no_args_is_help=True, help="Measure parts against a baseline, both in the same run.")


@app.command("dedup")
def bench_dedup(
    rows: Annotated[int, typer.Option(min=100, help="captions")] = 200_000,
    rensa: Annotated[str | None, typer.Option(help="a Python that has rensa, to compare with")] = None,
    text_dedup: Annotated[str | None, typer.Option(help="a Python that has text-dedup, to compare with")] = None,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
) -> None:
    """Near-duplicate captions: ours against datasketch, rensa and text-dedup."""
    from lightgen.bench.machine import machine
    from lightgen.bench.near_duplicates import bench_near_duplicates

    found = bench_near_duplicates(rows, rounds, rensa, text_dedup)
    table = Table("way", "captions", "captions/s", "ours is, least", "median", "most", box=None, header_style="bold")
    for rate in found.rates:
        ratios = (f"{ratio:.1f}x" for ratio in rate.ratios)
        table.add_row(rate.name, f"{rate.rows:,}", f"{rate.rows_per_s:,.0f}", *ratios)
    out.print(table)
    pairs, seen = found.recall
    out.print(f"ours refuses {found.refused:,}; of {pairs:,} near pairs of a sample its bands find {seen:,}")
    out.print(machine())


@app.command("select")
def bench_select(
    rows: Annotated[list[int], typer.Option(min=100, help="captions; several sizes tell how time grows")],
    shard_rows: Annotated[int, typer.Option(min=1, help="captions a shard")] = 10_000,
    workers: Annotated[int, typer.Option(min=1, help="processes that source maps on, as engine processes does")] = 1,
) -> None:
    """Source and select: a fifth of captions shaped as real ones, each size in a process of its own."""
    from lightgen.bench.machine import machine
    from lightgen.bench.selection import growth, select_costs

    costs = select_costs(sorted(rows), shard_rows, workers)
    heads = ("captions", "chosen", "source s", "CPU s", "select s", "CPU s", "peak GB", "of a worker")
    table = Table(*heads, box=None, header_style="bold")
    for cost in costs:
        seconds = [f"{took:,.1f}" for one in (cost.source, cost.select) for took in (one.wall_s, one.cpu_s)]
        worker = f"{cost.worker_gb:.2f}" if workers > 1 else ""
        table.add_row(f"{cost.rows:,}", f"{cost.chosen:,}", *seconds, f"{cost.peak_gb:.2f}", worker)
    out.print(table)
    if len(costs) > 1:
        out.print(f"processor time grows as the number of captions to the power {growth(costs):.2f}")
    out.print(machine())


@app.command("choice")
def bench_choice(
    rows: Annotated[int, typer.Option(min=100, help="captions, of which a fifth is chosen")] = 100_000,
    rounds: Annotated[int, typer.Option(min=1)] = 1,
    dense: Annotated[bool, typer.Option(help="k-center over dense vectors of 512 numbers too")] = True,
) -> None:
    """Rules of choice against k-center over all captions: processor time, and how far captions are from the chosen."""
    from lightgen.bench.choice import choice_costs
    from lightgen.bench.machine import machine

    heads = ("rule", "core s", "mean distance", "farthest", "balance+parts is, least", "median", "most")
    table = Table(*heads, box=None, header_style="bold")
    for cost in choice_costs(rows, rounds, dense=dense):
        ratios = (f"{ratio:.1f}x" for ratio in cost.ratios)
        table.add_row(cost.name, f"{cost.seconds:,.2f}", f"{cost.mean:.4f}", f"{cost.farthest:.4f}", *ratios)
    out.print(table)
    out.print(machine())


@app.command("corpora")
def bench_corpora(rows: Annotated[int, typer.Option(min=100, help="captions of each layout")] = 100_000) -> None:
    """Reading published layouts: ours against json.loads or pyarrow alone; cleaning by the batch against one by one."""
    from lightgen.bench.corpora import bench_corpora as measure
    from lightgen.bench.machine import machine

    table = Table("layout", "rows/s", "alone", "ours is, least", "median", "most", box=None, header_style="bold")
    for one in measure(rows):
        table.add_row(one.name, f"{one.ours:,.0f}", f"{one.peer:,.0f}", *(f"{ratio:.2f}x" for ratio in one.ratios))
    out.print(table)
    out.print(machine())


@app.command("shards")
def bench_shards(rows: Annotated[int, typer.Option(min=10, help="samples of 64 KiB")] = 2_000) -> None:
    """Writing tar shards: ours against webdataset's ShardWriter."""
    from lightgen.bench.machine import machine
    from lightgen.bench.shards import tar_rates

    table = Table("writer", "samples/s", "ours is, least", "median", "most", box=None, header_style="bold")
    for rate in tar_rates(rows):
        table.add_row(rate.name, f"{rate.rows_per_s:,.0f}", *(f"{ratio:.2f}x" for ratio in rate.ratios))
    out.print(table)
    out.print(machine())


@app.command("merge")
def bench_merge(rows: Annotated[int, typer.Option(min=10, help="rows of the version")] = 2_000_000) -> None:
    """Sealing a version: fingerprint and duplicate keys, merged in parts against all at once."""
    from lightgen.bench.machine import machine
    from lightgen.bench.merge import merge_costs

    table = Table("way", "seconds", "peak GB", box=None, header_style="bold")
    for cost in merge_costs(rows):
        table.add_row(cost.name, f"{cost.seconds:,.1f}", f"{cost.peak_gb:.2f}")
    out.print(table)
    out.print(machine())


PresetOption = Annotated[str, typer.Option(help="a named size of the student")]


@app.command("train")
def bench_train(
    preset: PresetOption = "ci-small",
    size_px: Annotated[int, typer.Option(min=16, help="of images under a VAE of 8 px a latent")] = 256,
    batch: Annotated[int, typer.Option(min=1)] = 8,
    steps: Annotated[int, typer.Option(min=1)] = 5,
    compiled: Annotated[bool, typer.Option("--compile", help="torch.compile ours")] = False,
    threads: Annotated[int | None, typer.Option(min=1, help="of the CPU; preset demo only")] = None,
) -> None:
    """Training steps on random features: ours against the published code's way.

    Preset `demo` is the last pretraining of the recipe demo, batch and optimizer included, in rounds of --steps.
    """
    if preset == "demo":
        from lightgen.bench.demo import bench_demo

        rates, ratios = bench_demo(steps, threads=threads)
        _table_of_rates(rates)
        out.print(f"ours is {min(ratios):.2f}x to {max(ratios):.2f}x, median {median(ratios):.2f}x, in rounds in turns")
    else:
        from lightgen.bench.training import bench_train as measure

        _table_of_rates(measure(preset, size_px, batch, steps, compiled=compiled))
    out.print(
        "FLOPs: lightgen/model/flops.py; MFU: over the faster of bf16 and fp32 matrix products, measured in this run"
    )


@app.command("sample")
def bench_sample(
    preset: PresetOption = "ci-small",
    size_px: Annotated[int, typer.Option(min=16)] = 256,
    batch: Annotated[int, typer.Option(min=1)] = 4,
    iterations: Annotated[int, typer.Option(min=1)] = 64,
    head_steps: Annotated[int, typer.Option(min=2)] = 100,
    precision: Annotated[str, typer.Option(help="as `samples.precision` of a recipe: fp32, bf16 or auto")] = "fp32",
) -> None:
    """Whole images under guidance, as a recipe draws them: ours against the published code's way."""
    from lightgen.bench.training import bench_sample as measure
    from lightgen.model.sampling import SampleConfig

    given = {"iterations": iterations, "head_steps": head_steps, "precision": precision}
    rates = measure(preset, size_px, batch, SampleConfig.model_validate(given))
    _table_of_rates(rates)
    out.print(f"both draw the same images: no number is more than {rates[-1].difference:.2g} standard deviations apart")


@app.command("dpo")
def bench_dpo(
    preset: PresetOption = "ci-small",
    size_px: Annotated[int, typer.Option(min=16)] = 256,
    pairs: Annotated[int, typer.Option(min=1, help="of a step")] = 4,
    steps: Annotated[int, typer.Option(min=1)] = 5,
) -> None:
    """Steps of DPO on random pairs: errors of the reference cached, against asking it live. Images are pairs here."""
    from lightgen.bench.training import bench_dpo as measure

    _table_of_rates(measure(preset, size_px, pairs, steps))


@app.command("loader")
def bench_loader(
    rows: Annotated[int, typer.Option(min=64, help="rows of features, 0.4 MB each, twice that for a baseline")] = 1500,
    workers: Annotated[int, typer.Option(min=1, help="processes that read ahead, at most")] = 2,
    batch: Annotated[int, typer.Option(min=1)] = 32,
    needs: Annotated[float, typer.Option(min=0, help="images/s that training takes, to compare with")] = 0,
) -> None:
    """Reading features at random: ours against pyarrow's row groups and a file for each sample."""
    from lightgen.bench.loader import bench_loader as measure
    from lightgen.bench.store_bytes import bench_bytes

    rates = measure(rows, workers, batch)
    table = Table("way", "samples/s", "GB/s", "ours is", "x needed", box=None, header_style="bold")
    best = max(rate.rows_per_s for rate in rates[: 2 * (workers + 1)])
    for rate in rates:
        figures = (rate.gb_per_s, best / rate.rows_per_s)
        need = f"{rate.rows_per_s / needs:.1f}" if needs else ""
        table.add_row(rate.name, f"{rate.rows_per_s:,.0f}", *(f"{figure:.2f}" for figure in figures), need)
    out.print(table)
    for stored in bench_bytes():
        out.print(stored.arithmetic)


@app.command("codecs")
def bench_codecs(
    checkpoint: Annotated[str, typer.Argument(help="a trained student, such as checkpoint@pretrained")],
    store: StoreOption,
    batches: Annotated[int, typer.Option(min=2, help="whose losses are compared")] = 16,
    batch: Annotated[int, typer.Option(min=2, help="samples a batch")] = 64,
) -> None:
    """What features in 8 bits change in the loss of a trained student: the same batches, masks and noise each way."""
    from lightgen.bench.codecs import bench_codecs as measure
    from lightgen.storage.store import open_store

    table = Table("features", "loss", "change", "standard error", "of the loss", box=None, header_style="bold")
    for one in measure(open_store(store), checkpoint, batches, batch):
        table.add_row(one.name, f"{one.loss:.5f}", f"{one.change:+.2e}", f"{one.error:.1e}", f"{one.relative:+.3%}")
    out.print(table)


@app.command("gpu")
def bench_gpu(
    minutes: Annotated[float, typer.Option(min=0.5, help="after which what is left is named and not measured")] = 10,
    folder: Annotated[Path, typer.Option(help="where gpu.json and gpu.md are written")] = Path("bench-gpu"),
    cpu: Annotated[bool, typer.Option("--cpu", help="the same items in their smallest sizes, on the CPU")] = False,
) -> None:
    """The whole table of a GPU: training, drawing, DPO, loading, memory, and paths against the CPU."""
    from lightgen.bench.gpu import run

    run(minutes, folder, cpu)


@app.command("fetch")
def bench_fetch(
    rows: Annotated[int, typer.Option(min=100, help="links")] = 4_000,
    size_px: Annotated[int, typer.Option(min=16, help="both sides of the pictures")] = 512,
    latency_ms: Annotated[float, typer.Option(min=0, help="that the server waits before it answers")] = 0,
    in_flight: Annotated[int, typer.Option(min=1, help="answers, in all ways alike")] = 64,
    img2dataset: Annotated[str | None, typer.Option(help="a Python that has img2dataset, to compare with")] = None,
    rounds: Annotated[int, typer.Option(min=1)] = 5,
) -> None:
    """Fetching pictures from a server on this machine: ours against img2dataset and a pool of threads."""
    from lightgen.bench.fetch import Setting
    from lightgen.bench.fetch import bench_fetch as measure
    from lightgen.bench.machine import machine

    heads = ("way", "images/s", "CPU ms an image", "ours is faster by", "and cheaper by")
    table = Table(*heads, box=None, header_style="bold")
    for rate in measure(Setting(rows, size_px, latency_ms / 1000, in_flight), img2dataset, rounds):
        ranges = (f"{one[0]:.2f} to {one[2]:.2f}, median {one[1]:.2f}" for one in (rate.faster, rate.cheaper))
        table.add_row(rate.name, f"{rate.images_per_s:,.0f}", f"{rate.cpu_ms:.2f}", *ranges)
    out.print(table)
    out.print(machine())


def _table_of_rates(rates: "list[Rate]") -> None:
    table = Table("way", "images/s", "TFLOP/s", "MFU", "peak GB", "ours is", box=None, header_style="bold")
    for rate in rates:
        counted = (f"{rate.tflops:.3f}", f"{rate.mfu:.1%}") if rate.tflops else ("", "")
        memory = f"{rate.memory_gb:.1f}" if rate.memory_gb else ""
        ratio = "" if rate is rates[0] else f"{rates[0].images_per_s / rate.images_per_s:.2f}x"
        table.add_row(rate.name, f"{rate.images_per_s:,.2f}", *counted, memory, ratio)
    out.print(table)
