"""A checkpoint and a report without training or judging: what pages and figures are made of; imported by path."""

import io
import json

import numpy as np
import pyarrow as pa
from lightgen.storage.build import ShardOutput, build, make_plan
from PIL import Image
from pydantic import BaseModel

from lightgen.generators.restore import CheckpointConfig
from lightgen.model.config import StudentConfig
from lightgen.storage.store import Store
from lightgen.storage.version import Version
from schemas import report as report_schema
from schemas.ref import ArtifactRef
from schemas.report import Report
from schemas.tensors import SCHEMA

FEATURES = ArtifactRef(kind="features", uri="store", version="0" * 32, rows=1, fingerprint="0" * 64)
SPEED = {
    "images_per_s": 1234.5, "tflops": 321.0, "mfu": 0.411, "gpu_hours": 2.5, "seconds": 1125.0, "processes": 8,
    "device": "cuda",
}  # fmt: skip


class _NoSettings(BaseModel):
    pass


def png(side_px: int = 8) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((side_px, side_px, 3), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def log_of(steps: int, every: int = 1, **figures: float) -> list[dict]:
    """A falling loss, and `figures` as they are."""
    return [
        {"step": step, "loss": 10 / step, "lr": 1e-3, "grad_norm": 1.0, **figures}
        for step in range(every, steps + 1, every)
    ]


def checkpoint(store: Store, log: list[dict], speed: dict | None = None, before: int = 0) -> Version:
    """A CHECKPOINT of one tensor after the steps of `log` and `before` earlier ones."""
    settings = CheckpointConfig(
        student=StudentConfig(), features=FEATURES, size_px=32, steps=log[-1]["step"] + before
    )  # fmt: skip
    files = {
        "config.json": settings.model_dump_json().encode(),
        "log.jsonl": "".join(json.dumps(row) + "\n" for row in log).encode(),
        "samples.png": png(),
        **({"speed.json": json.dumps(speed).encode()} if speed else {}),
    }
    table = pa.table({"name": ["w"], "dtype": ["float32"], "shape": ["1"], "sha256": ["0"]}, schema=SCHEMA)
    plan = make_plan(
        "checkpoint",
        "pretrain",
        [],
        _NoSettings(),
        0,
        [],
        1,
        extra={"log": json.dumps(log), "speed": speed, "before": before},
    )
    return store.open(build(store, plan, lambda _: ShardOutput(table, 1, files=files), SCHEMA))


def report(store: Store, content: Report) -> Version:
    """A REPORT of no rows that says `content`."""
    files = {"report.json": content.model_dump_json().encode(), "grid.png": png(), "report.html": b"<p>"}
    schema = report_schema.SCHEMA
    plan = make_plan("report", "evaluate", [], _NoSettings(), 0, [], 1, extra={"report": content.version})
    return store.open(build(store, plan, lambda _: ShardOutput(schema.empty_table(), 0, files=files), schema))
