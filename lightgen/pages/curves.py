"""What a checkpoint's `log.jsonl` and `speed.json` tell: curves of the loss and of DPO's health, and last figures."""

import json
import math
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup
from pydantic import BaseModel, ConfigDict

from lightgen.generators.restore import checkpoint_config
from lightgen.pages.charts import Curve
from lightgen.pages.html import spoken
from lightgen.pages.sheet import Chart, sheet_of
from lightgen.storage.version import Version

LN2 = math.log(2)
Row = dict[str, Any]
Log = dict[str, list[tuple[float, float]]]
LAST = {
    "loss": ("last loss", "{:.4f}"),
    "accuracy": ("last implicit accuracy", "{:.1%}"),
    "margin": ("last margin", "{:+.4f}"),
    "lr": ("last learning rate", "{:.3g}"),
}


class Speed(BaseModel):
    """`speed.json`: what a run cost; MFU is 0 where the ceiling of the device was not measured."""

    model_config = ConfigDict(frozen=True)

    images_per_s: float
    tflops: float
    mfu: float
    gpu_hours: float
    seconds: float
    processes: int
    device: str


def read_log(rows: Sequence[Row]) -> Log:
    """Points (step, value) by figure; rows without numbers, such as skipped steps, add nothing."""
    log: Log = {}
    for row in rows:
        for name, value in row.items():
            if name != "step" and isinstance(value, int | float):
                log.setdefault(name, []).append((row["step"], float(value)))
    return log


def checkpoint_charts(name: str, version: Version, tone: str = "c0") -> list[Markup]:
    """Every chart of one training run."""
    return [one.drawn(f"{name}: ") for one in _charts(read_log(_rows(version)), tone)]


def curve_sheet(version: Version) -> str:
    """The same charts as one picture that stands alone."""
    return sheet_of(_charts(read_log(_rows(version)), "c0"))


def training_figures(version: Version) -> dict[str, str]:
    """Steps, the last logged figures and what the run cost, for people."""
    rows, total = _rows(version), checkpoint_config(version).steps
    log, steps, skipped = read_log(rows), rows[-1]["step"], sum("skipped" in row for row in rows)
    last = {what: form.format(log[name][-1][1]) for name, (what, form) in LAST.items() if name in log}
    return {
        "steps": f"{steps:,}",
        **({"steps with those before": f"{total:,}"} if total != steps else {}),
        **({"steps skipped": f"{skipped:,}"} if skipped else {}),
        **last,
        **_speed_figures(version),
    }


def _speed_figures(version: Version) -> dict[str, str]:
    """Empty for versions that were made before speed was kept."""
    if "speed.json" not in version.file_names:
        return {}
    speed = Speed.model_validate_json(version.file("speed.json").read_bytes())
    many = f"{speed.processes} × " if speed.processes > 1 else ""
    return {
        "images a second": f"{speed.images_per_s:,.1f}",
        "TFLOP/s": f"{speed.tflops:,.3g}",
        **({"MFU": f"{speed.mfu:.1%}"} if speed.mfu else {}),
        "device": f"{many}{speed.device}",
        "time in steps": spoken(speed.seconds),
        f"{'CPU' if speed.device == 'cpu' else 'GPU'}-hours": f"{speed.gpu_hours:,.3g}",
    }


def _charts(log: Log, tone: str) -> list[Chart]:
    """The loss; for DPO also implicit accuracy against chance, margin, and both images' errors."""
    loss = [Curve("loss", log.get("loss", []), tone)]
    if "margin" not in log:
        return [Chart("loss", loss)]
    errors = [Curve("winner", log.get("winner_error", []), "c2"), Curve("loser", log.get("loser_error", []), "c5")]
    return [
        Chart("loss", loss, LN2, " (dashed: ln 2, no preference)"),
        Chart("implicit accuracy", [Curve("accuracy", log.get("accuracy", []), tone)], 0.5, " (dashed: chance)"),
        Chart("margin", [Curve("margin", log.get("margin", []), tone)], 0.0),
        Chart("noise error", errors),
    ]


def _rows(version: Version) -> list[Row]:
    return [json.loads(line) for line in version.file("log.jsonl").read_text(encoding="utf-8").splitlines()]
