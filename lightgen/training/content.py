"""What both training stages hand over: the one shard of a CHECKPOINT version, and sample grids on the way."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from lightgen.encoders.vae import Vae
from lightgen.generators.restore import CheckpointConfig
from lightgen.generators.sampler import contact_sheet, decode_tokens
from lightgen.model.sampling import SampleConfig, sample_latents
from lightgen.model.student import Grid, Student
from lightgen.seeds import derive_seed
from lightgen.storage.shards import ShardOutput
from lightgen.training.data import Features
from lightgen.training.state import Run
from lightgen.training.weights import tensor_rows, weight_files
from schemas.tensors import SCHEMA

COLUMNS = 8


def checkpoint_output(
    run: Run, settings: CheckpointConfig, drawing: SampleConfig, samples: bytes, speed: dict[str, float | int | str]
) -> ShardOutput:
    """The one shard of a CHECKPOINT version; `speed` says what the run cost.

    The rows are the digests of all tensors, so the files of the weights need not be content once more.
    """
    table = tensor_rows(run)
    extras = {
        **weight_files(run),
        "sampling.json": drawing.model_dump_json(indent=1).encode(),
        "samples.png": samples,
        "speed.json": json.dumps(speed, indent=1).encode(),
    }
    files = {"config.json": settings.model_dump_json(indent=1).encode()}
    return ShardOutput(table=table, schema=SCHEMA, rows_in=table.num_rows, files=files, extras=extras)


def sample_drawer(
    data: Features, vae: Vae, config: SampleConfig, captions: int, folder: Path, seed: int
) -> Callable[[int, Student], Path]:
    """Draws a grid of captions from all over `data` into `folder`, as `samples-<step>.png`, and says where it is."""
    rows = np.linspace(0, len(data) - 1, min(captions, len(data))).astype(int)
    batch = data.batch(rows, np.zeros_like(rows))
    seeds = [derive_seed(seed, "sample-grid", int(row)) for row in rows]

    @torch.no_grad()
    def draw(step: int, student: Student) -> Path:
        student.eval()
        grid = Grid(data.latent_shape[1] // student.config.patch, data.latent_shape[2] // student.config.patch)
        device = student.null_text.device
        tokens = sample_latents(
            student, student.text(batch.text.float().to(device), batch.keep.to(device)), grid, seeds, config
        )
        png = contact_sheet(decode_tokens(student, vae, tokens, grid), COLUMNS)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"samples-{step:08d}.png"
        path.write_bytes(png)
        return path

    return draw
