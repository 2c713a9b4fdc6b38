"""A checkpoint and a report without training or judging: what pages and figures are made of; imported by path."""

import io
import json

import numpy as np
import pyarrow as pa
from PIL import Image

from lightgen.config import Config
from lightgen.encoders.restore import Encoders
from lightgen.encoders.words import WordsConfig
from lightgen.generators.restore import CheckpointConfig
from lightgen.model.config import StudentConfig
from lightgen.storage.plans import Stage
from lightgen.storage.shards import ShardOutput
from lightgen.storage.store import Store
from lightgen.storage.version import Version
from schemas import report as report_schema
from schemas.report import Published, Report
from schemas.tensors import SCHEMA
from tests.worked_version import build

ENCODERS = Encoders(
    size_px=32, latent_shape=(16, 4, 4), text_dim=64, vae="0" * 64, text=WordsConfig(dim=64).identity()
)  # fmt: skip
SPEED = {
    "images_per_s": 1234.5, "tflops": 321.0, "mfu": 0.411, "gpu_hours": 2.5, "seconds": 1125.0, "processes": 8,
    "device": "cuda",
}  # fmt: skip


class _Given(Config):
    """What the version holds: other contents are other versions."""

    given: str


def png(side_px: int = 8) -> bytes:
    """A black square."""
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
    settings = CheckpointConfig(student=StudentConfig(), encoders=ENCODERS, steps=log[-1]["step"] + before)
    extras = {
        "log.jsonl": "".join(json.dumps(row) + "\n" for row in log).encode(),
        "samples.png": png(),
        **({"speed.json": json.dumps(speed).encode()} if speed else {}),
    }
    table = pa.table({"name": ["w"], "dtype": ["float32"], "shape": ["1"], "sha256": ["0"]}, schema=SCHEMA)
    files = {"config.json": settings.model_dump_json().encode()}
    made = ShardOutput(table, rows_in=1, schema=SCHEMA, files=files, extras=extras)
    given = _Given(given=json.dumps([log, speed, before]))
    plan = Stage("pretrain", "checkpoint", revision=1).plan(given, 0, [], 1)
    return store.open(build(store, plan, lambda _: made))


def report(store: Store, content: Report, published: Published | None = None) -> Version:
    """A REPORT of no rows that says `content`, beside what others have printed."""
    said = content.model_dump_json()
    files = {"report.json": said.encode()}
    files |= {"published.json": published.model_dump_json().encode()} if published else {}
    schema = report_schema.SCHEMA
    made = ShardOutput(schema.empty_table(), rows_in=0, schema=schema, files=files)
    plan = Stage("evaluate", "report", revision=1).plan(_Given(given=said + str(published or "")), 0, [], 1)
    return store.open(build(store, plan, lambda _: made))
