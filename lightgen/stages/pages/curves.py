"""Charts of a checkpoint's `log.jsonl`: loss, schedule and gradient, and for DPO the figures that tell its health."""

import json
import math

from markupsafe import Markup

from lightgen.stages.pages.charts import Curve, line_chart
from lightgen.storage.version import Version

LN2 = math.log(2)
Log = dict[str, list[tuple[float, float]]]


def read_log(text: str) -> Log:
    """Points (step, value) by figure; lines without numbers, such as skipped steps, add nothing."""
    log: Log = {}
    for line in text.splitlines():
        row = json.loads(line)
        for name, value in row.items():
            if name != "step" and isinstance(value, int | float):
                log.setdefault(name, []).append((row["step"], float(value)))
    return log


def checkpoint_charts(name: str, version: Version, tone: str = "c0") -> list[Markup]:
    """Every chart of one training run."""
    log = read_log(version.file("log.jsonl").read_text(encoding="utf-8"))
    return preference_charts(name, log, tone) if "margin" in log else loss_charts(name, log, tone)


def loss_charts(name: str, log: Log, tone: str) -> list[Markup]:
    """The loss of a run."""
    return [line_chart(f"{name}: loss", [Curve("loss", log.get("loss", []), tone)])]


def preference_charts(name: str, log: Log, tone: str) -> list[Markup]:
    """DPO: loss against ln 2, implicit accuracy against chance, margin, and both images' errors."""
    errors = [Curve("winner", log.get("winner_error", []), "c2"), Curve("loser", log.get("loser_error", []), "c5")]
    return [
        line_chart(f"{name}: loss (dashed: ln 2, no preference)", [Curve("loss", log.get("loss", []), tone)], LN2),
        line_chart(
            f"{name}: implicit accuracy (dashed: chance)", [Curve("accuracy", log.get("accuracy", []), tone)], 0.5
        ),
        line_chart(f"{name}: margin", [Curve("margin", log.get("margin", []), tone)], 0.0),
        line_chart(f"{name}: noise error", errors),
    ]
