"""The authors' published weights as a CHECKPOINT: to draw with, to align, to export. Named by the digest of the file.

Memory: the weights four times, in float32.
"""

import argparse
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import torch
from pydantic import Field
from safetensors.torch import load_file, save
from torch import Tensor

from lightgen.config import RUN, Config
from lightgen.encoders.diffusers_vae import DiffusersVaeConfig
from lightgen.encoders.fit import describe
from lightgen.encoders.restore import Encoders
from lightgen.encoders.t5 import T5Config
from lightgen.engines.build import build
from lightgen.errors import ConfigError, ModelError
from lightgen.generators.restore import CheckpointConfig
from lightgen.model.official import official_student
from lightgen.model.sampling import SampleConfig
from lightgen.storage.file_digests import file_digest
from lightgen.storage.locations import remember
from lightgen.storage.plans import Stage
from lightgen.storage.shards import ShardOutput
from lightgen.storage.weights import tensor_row
from lightgen.work import Context, MakeShard, Needs, Work, Worker
from schemas.ref import ArtifactRef
from schemas.tensors import SCHEMA

VAE = Stage("import_vae", "vae", revision=1)
STAGE = Stage("import_official", "checkpoint", revision=1)
SUFFIXES = (".safetensors", ".pth")


class ImportedVaeConfig(Config):
    """Which VAE the weights were trained with."""

    vae: DiffusersVaeConfig


class OfficialConfig(Config):
    """Where published weights lie, and what they were trained with, which no tensor tells."""

    path: str = Field(description="a .safetensors or .pth file, or a folder with one", json_schema_extra=RUN)
    weights: Literal["model", "model_ema"] = Field(
        default="model", description="which of a .pth; the authors draw with model, not with its average"
    )
    heads: int | None = Field(default=None, gt=0, description="of attention; null: as the authors have at this width")
    size_px: int = Field(default=512, gt=0, description="side of the images that it was trained on last")
    vae: DiffusersVaeConfig
    text: T5Config
    sample: SampleConfig = SampleConfig()


def import_official(config: OfficialConfig, context: Context) -> ArtifactRef:
    """The CHECKPOINT of published weights, with its VAE version beside it; found where it was made before.

    Raises ConfigError, ModelError.
    """
    path = weights_file(config.path)
    if not config.text.padded:
        raise ConfigError("text.padded: published weights attend padding, so it has to be true")
    for weights in (config.vae, config.text):
        remember(context.store, weights)
    of_vae = ImportedVaeConfig(vae=config.vae)
    vae = build(_work(VAE, of_vae, [], {}, "open_vae", context), context)
    return build(_work(STAGE, config, [vae], {"weights": file_digest(path)}, "open_weights", context), context)


def _work(
    stage: Stage, config: Config, parents: list[ArtifactRef], inputs: dict[str, str], opens: str, context: Context
) -> Work:
    plan = stage.plan(config, 0, parents, 1, inputs)
    return Work.of(plan, config, parents, context, f"{__name__}:{opens}", Needs(sort="job"))


def open_vae(work: Work, _: Worker) -> MakeShard:
    """See `lightgen.work`."""
    config = ImportedVaeConfig.model_validate(work.config)

    def make_shard(_: int) -> ShardOutput:
        rows, files, extras = describe(config.vae)
        table = pa.Table.from_pylist(rows, schema=SCHEMA)
        return ShardOutput(table=table, schema=SCHEMA, rows_in=len(rows), files=files, extras=extras)

    return make_shard


def open_weights(work: Work, _: Worker) -> MakeShard:
    """See `lightgen.work`."""
    config = OfficialConfig.model_validate(work.config)

    def make_shard(_: int) -> ShardOutput:
        return _checkpoint(config, work.parents[0])

    return make_shard


def _checkpoint(config: OfficialConfig, vae: ArtifactRef) -> ShardOutput:
    """The one shard: both the weights and their average are what the file has, for it tells only one of them."""
    channels, reduction = _shape(config.vae)
    student = official_student(read_weights(weights_file(config.path), config.weights), channels, config.heads)
    text_dim, side = student.config.text_dim, reduction * student.config.patch
    if config.text.width != text_dim:
        raise ConfigError(f"--text: its vectors have {config.text.width} channels, the weights read {text_dim}")
    if config.size_px % side:
        raise ConfigError(f"--size {config.size_px}: take a multiple of {side} px, the side of a token")
    shape = (channels, config.size_px // reduction, config.size_px // reduction)
    encoders = Encoders(
        size_px=config.size_px, latent_shape=shape, text_dim=text_dim, vae=vae.content, text=config.text.identity()
    )  # fmt: skip
    settings = CheckpointConfig(student=student.config, encoders=encoders, steps=0)
    tensors = dict(sorted(student.state_dict().items()))
    rows = [tensor_row(f"{group}.{name}", value) for group in ("ema", "model") for name, value in tensors.items()]
    table, data = pa.Table.from_pylist(rows, schema=SCHEMA), save(tensors)
    extras = {
        "model.safetensors": data, "ema.safetensors": data, "log.jsonl": b"",
        "sampling.json": config.sample.model_dump_json(indent=1).encode(),
    }  # fmt: skip
    files = {"config.json": settings.model_dump_json(indent=1).encode()}
    return ShardOutput(table=table, schema=SCHEMA, rows_in=table.num_rows, files=files, extras=extras)


def _shape(vae: DiffusersVaeConfig) -> tuple[int, int]:
    if vae.shape is None:
        raise ModelError(f"--vae {vae.model}: its config.json is not on this machine; fetch it, or give a local folder")
    return vae.shape


def weights_file(path: str) -> Path:
    """The file of weights that `path` is, or the only one in that folder. Raises ConfigError."""
    place = Path(path).expanduser()
    found = sorted(one for one in place.iterdir() if one.suffix in SUFFIXES) if place.is_dir() else [place]
    if len(found) != 1:
        names = ", ".join(one.name for one in found) or "none"
        raise ConfigError(f"{path}: one file of weights is wanted ({' or '.join(SUFFIXES)}), there is {names}")
    if found[0].suffix not in SUFFIXES or not found[0].is_file():
        raise ConfigError(f"{path}: no {' or '.join(SUFFIXES)} file there")
    return found[0]


def read_weights(path: Path, which: str) -> dict[str, Tensor]:
    """The tensors of a file; of a .pth that has more than tensors, those under `which`. Runs no code of the file.

    Raises ModelError.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        # The authors keep the arguments of the run beside the weights: names and values, which do nothing.
        with torch.serialization.safe_globals([argparse.Namespace]):
            found: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # noqa: BLE001 - what an unpickler meets in a foreign file has no common class
        raise ModelError(f"{path}: not a file of weights: {str(error)[:300]}") from None
    return _tensors(found, path, which)


def _tensors(found: Any, path: Path, which: str) -> dict[str, Tensor]:
    inner = found.get(which) if isinstance(found, dict) and which in found else found
    if isinstance(inner, dict) and inner and all(isinstance(one, Tensor) for one in inner.values()):
        return inner
    there = ", ".join(map(str, found)) if isinstance(found, dict) else type(found).__name__
    raise ModelError(f"{path}: no tensors under {which!r}; there is {there}")
