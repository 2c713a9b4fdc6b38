"""CHECKPOINT + PAIRS -> CHECKPOINT: direct preference optimisation, or its control, a fine-tune on the winners."""

import copy
import io
from collections.abc import Iterable
from typing import Literal

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

import lightgen.model
import lightgen.training
from lightgen.encoders.restore import load_encoders
from lightgen.encoders.text import TextEncoder
from lightgen.encoders.vae import Vae
from lightgen.errors import ConfigError
from lightgen.model.restore import Weights, checkpoint_config, load_student
from lightgen.model.sampling import SampleConfig
from lightgen.model.student import Student
from lightgen.progress import SILENT, Progress
from lightgen.stages.checkpoints import checkpoint_output, sample_drawer
from lightgen.storage.build import ShardOutput, build, make_plan
from lightgen.storage.store import Store
from lightgen.storage.version import Version
from lightgen.training.data import FeatureSet, memory_features
from lightgen.training.loop import LoopConfig, train
from lightgen.training.objectives import MaskedDiffusion, Objective, Preference
from lightgen.training.optimizer import OptimizerConfig
from schemas.ref import ArtifactRef
from schemas.tensors import SCHEMA

ENCODE_BATCH = 256


class AlignConfig(BaseModel):
    """Alignment on preference pairs; the defaults are the paper's DPO (model_facts 3)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    objective: Literal["dpo", "sft"] = Field(default="dpo", description="sft: masked diffusion on the winners alone")
    beta: float = Field(default=5000.0, gt=0, description="strength of the preference; dpo only")
    batch_size: int = Field(default=2048, gt=0, description="pairs a step")
    noise_copies: int = Field(default=4, ge=1)
    variance_bound: bool = Field(default=True, description="sft only: train the variance of the sampler too")
    loop: LoopConfig = LoopConfig(steps=312, optimizer=OptimizerConfig(lr=1e-8))
    start_weights: Weights = "ema"
    samples: SampleConfig = SampleConfig()
    sample_captions: int = Field(default=16, ge=1)


def align(
    checkpoint: ArtifactRef,
    pairs: ArtifactRef,
    config: AlignConfig,
    store: Store,
    *,
    seed: int,
    progress: Progress = SILENT,
) -> ArtifactRef:
    """A checkpoint that goes on from `checkpoint`; both images of a pair take the same way through the VAE."""
    modules = [lightgen.model, lightgen.training, "lightgen.stages.align"]
    plan = make_plan("checkpoint", "align", modules, config, seed, [checkpoint, pairs], n_shards=1)

    def make_shard(_: int) -> ShardOutput:
        start = store.open(checkpoint)
        settings = checkpoint_config(start)
        vae, text = load_encoders(store.open(settings.features), store, "cpu")
        winners, losers = read_pairs(store.open(pairs), vae, text, settings.size_px)
        student = load_student(start, config.start_weights)
        folder = store.scratch(plan)
        draw = sample_drawer(winners, vae, config.samples, config.sample_captions, folder, seed)
        run = train(
            student, _objective(student, winners, losers, config, seed), config.loop, seed=seed, folder=folder,
            run_id=plan.version, progress=progress, on_sample=draw,
        )  # fmt: skip
        steps = settings.steps + run.step
        return checkpoint_output(run, settings.model_copy(update={"steps": steps}), draw(run.step, run.average))

    return build(store, plan, make_shard, SCHEMA, progress=progress, unit="tensors")


def _objective(student: Student, winners: FeatureSet, losers: FeatureSet, config: AlignConfig, seed: int) -> Objective:
    if config.objective == "sft":
        return MaskedDiffusion(winners, config.batch_size, config.noise_copies, seed, config.variance_bound)
    reference = copy.deepcopy(student).requires_grad_(False)
    return Preference(winners, losers, reference, config.batch_size, config.noise_copies, config.beta, seed)


def read_pairs(pairs: Version, vae: Vae, text: TextEncoder, size_px: int) -> tuple[FeatureSet, FeatureSet]:
    """Winners and losers as features, in the same order."""
    captions = {row["id"]: row["caption"] for row in pairs.table(columns=["id", "caption"]).to_pylist()}
    if not captions:
        raise ConfigError(f"{pairs.ref} holds no pairs; draw more losers or loosen the judge in stage pair")
    samples = [sample for shard in range(pairs.n_shards) for sample in pairs.samples(shard)]
    texts = text.encode([captions[key] for key, _ in samples])
    sides = []
    for side in ("winner", "loser"):
        images = [_image(members, side) for _, members in samples]
        sides.append(memory_features(_latents(images, vae, size_px), texts))
    return sides[0], sides[1]


def _image(members: dict[str, bytes], side: str) -> UInt8[np.ndarray, "h w 3"]:
    with Image.open(io.BytesIO(members[f"{side}.png"])) as image:
        return np.asarray(image.convert("RGB"))


def _latents(images: list[np.ndarray], vae: Vae, size_px: int) -> torch.Tensor:
    """Exact latents; images of another size than the student's are a mistake in stage pair."""
    wrong = next((image.shape for image in images if image.shape[:2] != (size_px, size_px)), None)
    if wrong is not None:
        raise ConfigError(f"a pair's image is {wrong[1]}x{wrong[0]}, the checkpoint draws {size_px}x{size_px}")
    parts = [vae.encode(torch.from_numpy(np.stack(chunk)))[0] for chunk in _chunks(images)]
    return torch.cat(parts).half()


def _chunks(images: list[np.ndarray]) -> Iterable[list[np.ndarray]]:
    return (images[first : first + ENCODE_BATCH] for first in range(0, len(images), ENCODE_BATCH))
