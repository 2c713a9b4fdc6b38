"""The items of `lightgen bench gpu`, one after the other; prints a line of JSON for each."""

import gc
import importlib
import json
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from lightgen.bench.gpu import MARK, Item, Outcome, sheet_tflops
from lightgen.bench.loader import LATENT, TEXT_DIM, write_features
from lightgen.bench.training import (
    COPIES,
    HIDDEN,
    Rate,
    bench_dpo,
    bench_sample,
    bench_train,
    fixed_share,
    random_features,
    time_training,
)
from lightgen.model.config import PRESETS, StudentConfig
from lightgen.model.masking import masked_count
from lightgen.model.memory import Activations, state_bytes
from lightgen.model.sampling import SampleConfig, sample_latents
from lightgen.model.student import Grid, Student, parameter_count
from lightgen.training.launch import LaunchConfig
from lightgen.training.loop import LoopConfig, make_trainer, train_step
from lightgen.training.numerics import deterministic_mode
from lightgen.training.objectives import MaskedDiffusion
from lightgen.training.ranks import World

Rows = list[dict[str, Any]]
WORDS = 64
ROOM = 0.8  # of a GPU's memory that the formula may fill: kernels, fragments and the largest batch want the rest
MULTIPLE = 4  # of a batch that is chosen
TINY, SIDE, STEPS = "ci-tiny", 4, 3
# How far a device may be from the CPU in float32: other orders of sums, over three steps.
RELATIVE = 1e-3


def main(job: str) -> None:
    """Prints an outcome for each item of the job."""
    told = json.loads(job)
    for given in told["items"]:
        item, left = Item(**given), told["deadline"] - time.time()
        began = time.time()
        rows, missing = (
            _measured(item, told["device"])
            if left >= item.least_s
            else ([], f"it needs {item.least_s:.0f} s, {left:.0f} s were left")
        )
        outcome = Outcome(item.name, round(time.time() - began, 1), rows, missing)
        sys.stdout.write(f"{MARK}{json.dumps(asdict(outcome))}\n")
        sys.stdout.flush()


def _measured(item: Item, device: str) -> tuple[Rows, str]:
    """Rows of an item, or why there are none: whatever goes wrong with one is said, and the next goes on."""
    try:
        return WAYS[item.way](device, **item.given), ""
    except torch.OutOfMemoryError as error:
        return [], f"out of memory: {str(error).splitlines()[0]}"
    except Exception as error:  # noqa: BLE001, a table with a hole is worth more than none
        traceback.print_exc()
        return [], f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    finally:
        gc.collect()
        if device == "cuda":
            torch.cuda.empty_cache()


def _train(device: str, preset: str, size_px: int, steps: int, batch: int | None = None) -> Rows:
    config, tokens = PRESETS[preset], (size_px // 16) ** 2
    batch = batch or _fitting(config, tokens)
    rates = bench_train(preset, size_px, batch, steps, WORDS, compiled=device == "cuda")
    rows = _rows(rates, f"batch {batch}")
    rows[0]["formula_gb"] = _formula_gb(config, tokens, batch)
    return rows


def _sample(device: str, preset: str, size_px: int, batch: int, iterations: int, head_steps: int) -> Rows:
    settings = SampleConfig(iterations=iterations, head_steps=head_steps, precision="auto")
    return _rows(bench_sample(preset, size_px, batch, settings, WORDS), f"batch {batch}, precision auto")


def _dpo(device: str, preset: str, size_px: int, pairs: int, steps: int) -> Rows:
    return _rows(bench_dpo(preset, size_px, pairs, steps, WORDS), f"{pairs} pairs a step")


def _loader(device: str, preset: str, size_px: int, rows: int, steps: int, batch: int | None = None) -> Rows:
    """The step with rows read from the disk beside it, against the same step with rows in memory."""
    side = size_px // 16
    config = PRESETS[preset].model_copy(update={"text_dim": TEXT_DIM, "latent_channels": LATENT[0]})
    batch = batch or _fitting(config, side * side)
    latent = (LATENT[0], side * config.patch, side * config.patch)
    with tempfile.TemporaryDirectory() as folder:
        stored = write_features(Path(folder), rows, latent)
        memory = random_features(config, side, stored.longest_text, batch)
        rates = []
        for name, features in (("rows on the disk", stored), ("rows in memory", memory)):
            objective = MaskedDiffusion(features, batch, COPIES, 0, masks=fixed_share())
            seconds, peak = time_training(config, side, objective, "auto", device, steps, LaunchConfig())
            rates.append(Rate(name, batch / seconds, 0.0, 0.0, peak))
    return _rows(rates, f"batch {batch}, {stored.longest_text} words")


def _paths(device: str) -> Rows:
    """Losses, gradients and drawn tokens in float32, here and on the CPU, from the same weights and samples."""
    here, there = (_lesson(where) for where in (device, "cpu"))
    found = [(name, _apart(here[name], there[name])) for name in here]
    worst = max(apart for _, apart in found)
    verdict = "within" if worst <= RELATIVE else "**not within**"
    shown = ", ".join(f"{name} {apart:.1e}" for name, apart in found)
    return [{"way": "float32 against the CPU", "note": f"{verdict} {RELATIVE:g}, relative: {shown}"}]


def _repeat(device: str) -> Rows:
    """Printed and not asserted: on a CPU it is promised, on a GPU it is found out."""
    rows = []
    for precision in ("fp32", "auto"):
        one, other = (_lesson(device, precision) for _ in range(2))
        equal = all(torch.equal(one[name], other[name]) for name in one)
        said = (
            "equal bit for bit"
            if equal
            else "**not equal**: " + ", ".join(n for n in one if not one[n].equal(other[n]))
        )
        rows.append({"way": f"two runs of {STEPS} steps, {precision}", "note": said})
    return rows


def _goldens(device: str, names: list[str]) -> Rows:
    """Stored outputs of the CPU against those of this device; only a checkout of the repository has them."""
    try:
        check = importlib.import_module("tests.golden.on_device").check
    except ModuleNotFoundError as error:
        return [{"way": "", "note": f"not a checkout of the repository ({error})"}]
    return [{"way": name, "note": check(name, device) or "as stored"} for name in names]


WAYS: dict[str, Callable[..., Rows]] = {
    "train": _train, "sample": _sample, "dpo": _dpo, "loader": _loader, "paths": _paths, "repeat": _repeat,
    "goldens": _goldens,
}  # fmt: skip


def _lesson(device: str, precision: str = "fp32") -> dict[str, torch.Tensor]:
    """Losses and gradient norms of some steps of a tiny student, its weights after them, and tokens it then draws."""
    config = PRESETS[TINY].model_copy(update={"grid": SIDE, "dropout": 0.0})
    student = Student(config).init(0).to(device)
    objective = MaskedDiffusion(random_features(config, SIDE, 6, 8), 4, COPIES, 0, masks=fixed_share())
    loop = LoopConfig.model_validate(
        {"steps": STEPS, "log_every": 1, "precision": precision, "optimizer": {"lr": 1e-3, "warmup_steps": 0}}
    )
    trainer = make_trainer(student, objective, loop, 0, World(), LaunchConfig())
    with deterministic_mode(loop.deterministic, None):
        for step in range(STEPS):
            rows, epochs = objective.schedule()(step)
            train_step(trainer, [objective.features.batch(rows, epochs)])
    log = [json.loads(line) for line in trainer.state.log]
    drawn = sample_latents(
        student,
        student.without_text(2),
        Grid(SIDE, SIDE),
        [1, 2],
        SampleConfig(iterations=2, head="ddim", head_steps=3),
    )
    weights = torch.cat([value.detach().cpu().flatten() for value in student.parameters()])
    return {
        "losses": torch.tensor([row["loss"] for row in log]),
        "gradients": torch.tensor([row["grad_norm"] for row in log]),
        "weights": weights,
        "tokens": drawn.cpu(),
    }


def _apart(here: torch.Tensor, there: torch.Tensor) -> float:
    """Root mean square difference, relative to that of `there`."""
    return float((here - there).norm() / there.norm().clamp(min=1e-12))


def _rows(rates: list[Rate], note: str) -> Rows:
    """Rates as rows; the first way is ours, the others say how much faster it is."""
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    sheet, rows = sheet_tflops(name), []
    for rate in rates:
        row: dict[str, Any] = {"way": rate.name, "images_per_s": rate.images_per_s, "note": note}
        if rate.tflops:
            row |= {"tflops": rate.tflops, "mfu": rate.mfu, "mfu_sheet": rate.tflops / sheet if sheet else None}
        if rate.memory_gb:
            row["memory_gb"] = rate.memory_gb
        if rate is not rates[0]:
            row["ratio"] = rates[0].images_per_s / rate.images_per_s
        rows.append(row)
    return rows


def _formula_gb(config: StudentConfig, tokens: int, batch: int) -> float:
    return (state_bytes(parameter_count(config)) + batch * _image_bytes(config, tokens)) / 1e9


def _image_bytes(config: StudentConfig, tokens: int) -> float:
    kept = Activations(config, tokens, WORDS, COPIES)
    return kept.text() + kept.image(masked_count(tokens, HIDDEN))


def _fitting(config: StudentConfig, tokens: int) -> int:
    """The largest multiple of MULTIPLE whose memory by formula leaves room on this GPU."""
    memory = torch.cuda.get_device_properties(0).total_memory
    images = (ROOM * memory - state_bytes(parameter_count(config))) / _image_bytes(config, tokens)
    return max(1, int(images) // MULTIPLE * MULTIPLE)


if __name__ == "__main__":
    main(sys.argv[1])
