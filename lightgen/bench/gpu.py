"""`lightgen bench gpu`: all that docs/benchmarks.md says of a GPU, measured by one command within a time.

Each item runs in a child process, one after the other. What an item cannot do (memory, an error, the time) is named in
its row and costs no other item: when the child dies, another goes on behind the item at which it died.

`python -m lightgen.bench.gpu` is the same command and needs torch, pydantic, jaxtyping, numpy, pyarrow, safetensors,
typer and rich, nothing else.
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import typer

from lightgen.bench.machine import machine
from lightgen.errors import ConfigError
from lightgen.settings import pick_device

Way = Literal["train", "sample", "dpo", "loader", "paths", "repeat", "goldens"]
# Dense bfloat16 products by the data sheet, in TFLOP/s, by what the name of the device holds.
DATA_SHEET = {"A100": 312.0, "H100": 989.0, "H200": 989.0}
START_S = 15.0  # until the first item of a child begins, at most
CHILD = "lightgen.bench.gpu_child"


@dataclass(frozen=True)
class Item:
    """One thing to measure; `least_s` is the time below which it is not begun."""

    way: Way
    least_s: float
    given: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Said in the table."""
        return " ".join([self.way, *(f"{value}" for value in self.given.values())])


@dataclass(frozen=True)
class Outcome:
    """What came of an item: rows of figures, or why there are none."""

    item: str
    seconds: float
    rows: list[dict[str, Any]]
    missing: str = ""


# Sizes fit 78 GB by lightgen/model/memory.py where the batch is not given; the important comes first.
ON_GPU = (
    Item("paths", 10),
    Item("repeat", 10),
    Item("train", 45, {"preset": "lightgen-0.7b", "size_px": 256, "steps": 6}),
    Item("sample", 60, {"preset": "lightgen-0.7b", "size_px": 512, "batch": 32, "iterations": 16, "head_steps": 50}),
    Item("dpo", 45, {"preset": "lightgen-0.7b", "size_px": 512, "pairs": 8, "steps": 4}),
    Item("train", 45, {"preset": "lightgen-official", "size_px": 256, "steps": 6}),
    Item("train", 45, {"preset": "lightgen-0.7b", "size_px": 512, "steps": 6}),
    Item("train", 45, {"preset": "lightgen-official", "size_px": 512, "steps": 6}),
    Item("loader", 40, {"preset": "lightgen-0.7b", "size_px": 256, "rows": 1024, "steps": 6}),
    Item("goldens", 40, {"names": ["stage pretrain", "stage align", "generator student", "vae patch_pca"]}),
)
# The same in small, for a CPU: what it shows is that every item runs.
ON_CPU = (
    Item("paths", 1),
    Item("repeat", 1),
    Item("train", 1, {"preset": "ci-tiny", "size_px": 64, "steps": 1, "batch": 2}),
    Item("sample", 1, {"preset": "ci-tiny", "size_px": 64, "batch": 1, "iterations": 2, "head_steps": 2}),
    Item("dpo", 1, {"preset": "ci-tiny", "size_px": 64, "pairs": 1, "steps": 1}),
    Item("loader", 1, {"preset": "ci-tiny", "size_px": 64, "rows": 16, "steps": 1, "batch": 2}),
    Item("goldens", 1, {"names": ["vae patch_pca"]}),
)


def bench_gpu(items: Sequence[Item], device: str, minutes: float) -> dict[str, Any]:
    """The table as JSON values: the machine, the device, and an outcome for each item."""
    deadline = time.time() + 60 * minutes
    outcomes: list[Outcome] = []
    while len(outcomes) < len(items):
        left = items[len(outcomes) :]
        if deadline - time.time() < START_S:
            outcomes += [Outcome(item.name, 0.0, [], "no time was left") for item in left]
        else:
            outcomes += _in_child(left, device, deadline)
    found = {"machine": machine(), "device": _device_name(device), "torch": version("torch"), "minutes": minutes}
    return found | {"items": [asdict(one) for one in outcomes]}


def _device_name(device: str) -> str:
    if device != "cuda":
        return device
    import torch

    return torch.cuda.get_device_name()


def _in_child(items: Sequence[Item], device: str, deadline: float) -> list[Outcome]:
    """Outcomes of the first items, at least one: the last is the one at which the child died, if it did."""
    job = json.dumps({"items": [asdict(item) for item in items], "device": device, "deadline": deadline})
    began = time.time()
    with subprocess.Popen(
        [sys.executable, "-m", CHILD, job], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        stop = threading.Timer(max(0.0, deadline - time.time()), child.kill)
        stop.start()
        told, errors = child.communicate()
        stop.cancel()
    lines = [line.removeprefix(MARK) for line in told.splitlines() if line.startswith(MARK)]
    outcomes = [Outcome(**json.loads(line)) for line in lines]
    if len(outcomes) < len(items):
        late = time.time() >= deadline
        last = (errors.strip().splitlines() or [f"exit status {child.returncode}"])[-1]
        why = "it was stopped: the time was over" if late else f"the process died: {last}"
        outcomes.append(Outcome(items[len(outcomes)].name, time.time() - began, [], why))
    return outcomes


MARK = "outcome "  # begins a line of the child that is not of a library


def sheet_tflops(name: str) -> float | None:
    """Of a device by its name; None where none is known."""
    return next((value for known, value in DATA_SHEET.items() if known in name), None)


COLUMNS = {
    "images_per_s": ("images/s", "{:,.2f}"),
    "tflops": ("TFLOP/s", "{:,.3g}"),
    "mfu": ("MFU, of the measured ceiling", "{:.1%}"),
    "mfu_sheet": ("of the data sheet", "{:.1%}"),
    "memory_gb": ("peak GB", "{:.1f}"),
    "formula_gb": ("by formula", "{:.1f}"),
    "ratio": ("ours is", "{:.2f}x"),
    "note": ("", "{}"),
}


def as_markdown(table: dict[str, Any]) -> str:
    """The table as docs/benchmarks.md has it."""
    heads = ["item", "way", *(head for head, _ in COLUMNS.values())]
    lines = [
        f"{table['machine']}; {table['device']}; torch {table['torch']}",
        "",
        _row(heads),
        _row(["---"] * len(heads)),
    ]
    for item in table["items"]:
        for row in item["rows"] or [{"way": "", "note": f"**missing**: {item['missing']}"}]:
            shown = [form.format(row[key]) if row.get(key) is not None else "" for key, (_, form) in COLUMNS.items()]
            lines.append(_row([item["item"], row["way"], *shown]))
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def write(table: dict[str, Any], folder: Path) -> tuple[Path, Path]:
    """The table as gpu.json and gpu.md in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / "gpu.json", folder / "gpu.md"
    paths[0].write_text(json.dumps(table, indent=1), encoding="utf-8")
    paths[1].write_text(as_markdown(table), encoding="utf-8")
    return paths


def run(minutes: float = 10, folder: Path = Path("bench-gpu"), cpu: bool = False) -> None:
    """Measure, print the table and write it to `folder`. Raises ConfigError where there is no GPU to measure."""
    device = "cpu" if cpu else pick_device()
    if not cpu and device != "cuda":
        raise ConfigError("bench gpu: torch sees no GPU here; take --cpu for the small form")
    table = bench_gpu(ON_CPU if cpu else ON_GPU, device, minutes)
    written = write(table, folder)
    sys.stdout.write(as_markdown(table) + "\nwritten: {}, {}\n".format(*written))


if __name__ == "__main__":
    try:
        typer.run(run)
    except ConfigError as error:
        sys.exit(str(error))
