"""What a training stage hands over: the one shard of a CHECKPOINT version, and sample grids while it trains."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
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
from lightgen.training.state import TrainState
from lightgen.training.weights import checkpoint_files, checkpoint_rows
from schemas.tensors import SCHEMA

GRID_COLUMNS = 8
EARLIER = 8  # grids drawn before the last step that are sealed beside it, at most


def checkpoint_output(
    state: TrainState,
    config: CheckpointConfig,
    sampling: SampleConfig,
    samples: dict[str, bytes],
    speed: dict[str, Any],
) -> ShardOutput:
    """The one shard of a CHECKPOINT version; `samples` are pictures by name, `speed` says what the run cost.

    The rows are the digests of all tensors, so the files of the weights need not be content once more.
    """
    table = checkpoint_rows(state)
    extras = {
        **checkpoint_files(state),
        "sampling.json": sampling.model_dump_json(indent=1).encode(),
        **samples,
        "speed.json": json.dumps(speed, indent=1).encode(),
    }
    files = {"config.json": config.model_dump_json(indent=1).encode()}
    return ShardOutput(table=table, schema=SCHEMA, rows_in=table.num_rows, files=files, extras=extras)


@dataclass(frozen=True)
class SampleGrid:
    """Draws images of `captions` captions, evenly spaced in `features`, with the VAE that `open_vae` loads."""

    features: Features
    open_vae: Callable[[], Vae]
    config: SampleConfig
    captions: int
    folder: Path
    seed: int

    @cached_property
    def vae(self) -> Vae:
        """Loaded when it is first asked for: of the processes of a run, only the one that draws needs it."""
        return self.open_vae()

    def load(self) -> None:
        """Load the VAE now: whoever will draw is to fail before the first step if it cannot."""
        assert self.vae is not None, "a VAE that is loaded"

    def drawn(self, step: int, student: Student) -> dict[str, bytes]:
        """The grid of the last step as `samples.png`, and some of those drawn before, at equal distances, as drawn."""
        last = self(step, student)
        before = sorted(path for path in self.folder.glob("samples-*.png") if path != last)
        places = sorted({number * len(before) // EARLIER for number in range(EARLIER)}) if before else []
        return {"samples.png": last.read_bytes(), **{before[at].name: before[at].read_bytes() for at in places}}

    @torch.no_grad()
    def __call__(self, step: int, student: Student) -> Path:
        """Write one grid, `samples-<step>.png` in `folder`; returns the path."""
        rows = np.linspace(0, len(self.features) - 1, min(self.captions, len(self.features))).astype(int)
        batch = self.features.batch(rows, np.zeros_like(rows))
        seeds = [derive_seed(self.seed, "sample-grid", int(row)) for row in rows]
        student.eval()
        _, height, width = self.features.latent_shape
        grid = Grid(height // student.config.patch, width // student.config.patch)
        device = student.null_text.device
        text = student.text(batch.text.float().to(device), batch.keep.to(device))
        tokens = sample_latents(student, text, grid, seeds, self.config)
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"samples-{step:08d}.png"
        path.write_bytes(contact_sheet(decode_tokens(student, self.vae, tokens, grid), GRID_COLUMNS))
        return path
