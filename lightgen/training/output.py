"""What a training stage hands over: the one shard of a CHECKPOINT version, and sample grids while it trains."""

import json
from pathlib import Path
from typing import Any

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
from lightgen.training.loop import DrawSamples
from lightgen.training.state import TrainState
from lightgen.training.weights import checkpoint_files, checkpoint_rows
from schemas.tensors import SCHEMA

GRID_COLUMNS = 8


def checkpoint_output(
    state: TrainState, config: CheckpointConfig, sampling: SampleConfig, samples: bytes, speed: dict[str, Any]
) -> ShardOutput:
    """The one shard of a CHECKPOINT version; `speed` says what the run cost.

    The rows are the digests of all tensors, so the files of the weights need not be content once more.
    """
    table = checkpoint_rows(state)
    extras = {
        **checkpoint_files(state),
        "sampling.json": sampling.model_dump_json(indent=1).encode(),
        "samples.png": samples,
        "speed.json": json.dumps(speed, indent=1).encode(),
    }
    files = {"config.json": config.model_dump_json(indent=1).encode()}
    return ShardOutput(table=table, schema=SCHEMA, rows_in=table.num_rows, files=files, extras=extras)


def sample_grid(
    features: Features, vae: Vae, config: SampleConfig, captions: int, folder: Path, seed: int
) -> DrawSamples:
    """A function that draws images of `captions` captions, evenly spaced in `features`.

    It writes them as one grid, `samples-<step>.png` in `folder`, and returns the path.
    """
    rows = np.linspace(0, len(features) - 1, min(captions, len(features))).astype(int)
    batch = features.batch(rows, np.zeros_like(rows))
    seeds = [derive_seed(seed, "sample-grid", int(row)) for row in rows]

    @torch.no_grad()
    def draw_samples(step: int, student: Student) -> Path:
        student.eval()
        _, height, width = features.latent_shape
        grid = Grid(height // student.config.patch, width // student.config.patch)
        device = student.null_text.device
        text = student.text(batch.text.float().to(device), batch.keep.to(device))
        tokens = sample_latents(student, text, grid, seeds, config)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"samples-{step:08d}.png"
        path.write_bytes(contact_sheet(decode_tokens(student, vae, tokens, grid), GRID_COLUMNS))
        return path

    return draw_samples
