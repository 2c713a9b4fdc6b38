"""CHECKPOINT + PAIRS -> CHECKPOINT: direct preference optimisation, or its control, a fine-tune on the winners."""

import copy
from typing import Literal

import torch
from jaxtyping import Float, UInt8
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

import lightgen.model
import lightgen.training
from lightgen.encoders.crop import read_square
from lightgen.encoders.restore import load_encoders
from lightgen.encoders.text import TextEncoder
from lightgen.encoders.vae import Vae
from lightgen.errors import ConfigError, StoreCorrupt
from lightgen.model.masking import MaskLaw
from lightgen.model.restore import Weights, checkpoint_config, load_student
from lightgen.model.sampling import SampleConfig
from lightgen.model.student import Student
from lightgen.progress import SILENT, Progress
from lightgen.settings import Device, pick_device
from lightgen.stages import checkpoints, sampling
from lightgen.stages.checkpoints import checkpoint_output, sample_drawer
from lightgen.storage.build import ShardOutput, build, make_plan
from lightgen.storage.pixels import BadImage
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
    masks: MaskLaw = MaskLaw()
    variance_bound: bool = Field(default=True, description="sft only: train the variance of the sampler too")
    loop: LoopConfig = LoopConfig(steps=312, optimizer=OptimizerConfig(lr=1e-8))
    start_weights: Weights = "ema"
    samples: SampleConfig = SampleConfig()
    sample_captions: int = Field(default=16, ge=1)
    device: Device = "auto"

    def content(self) -> "AlignConfig":
        """Without where it runs."""
        return self.model_copy(update={"device": "auto"})


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
    modules = [lightgen.model, lightgen.training, checkpoints, sampling, __name__]
    plan = make_plan("checkpoint", "align", modules, config.content(), seed, [checkpoint, pairs], n_shards=1)

    def make_shard(_: int) -> ShardOutput:
        start = store.open(checkpoint)
        settings = checkpoint_config(start)
        vae, text = load_encoders(store.open(settings.features), store, "cpu")
        winners, losers = read_pairs(store.open(pairs), vae, text, settings.size_px)
        student = load_student(start, config.start_weights).to(pick_device(config.device))
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
        return MaskedDiffusion(
            winners, config.batch_size, config.noise_copies, seed, config.variance_bound, config.masks
        )
    reference = copy.deepcopy(student).requires_grad_(False)
    return Preference(
        winners, losers, reference, config.batch_size, config.noise_copies, config.beta, seed, config.masks
    )


def read_pairs(pairs: Version, vae: Vae, text: TextEncoder, size_px: int) -> tuple[FeatureSet, FeatureSet]:
    """Winners and losers as features, in the same order."""
    captions = {row["id"]: row["caption"] for row in pairs.table(columns=["id", "caption"]).to_pylist()}
    if not captions:
        raise ConfigError(f"{pairs.ref} holds no pairs; draw more losers or loosen the judge in stage pair")
    samples = [sample for shard in range(pairs.n_shards) for sample in pairs.samples(shard)]
    texts = text.encode([captions[key] for key, _ in samples])
    sides = []
    for side in ("winner", "loser"):
        images = [_square(key, members, side, size_px) for key, members in samples]
        sides.append(memory_features(_latents(images, vae), texts))
    return sides[0], sides[1]


def _square(key: str, members: dict[str, bytes], side: str, size_px: int) -> UInt8[Tensor, "size size 3"]:
    """The square that stage encode would see: both sides take this one way."""
    image = read_square(next(data for name, data in members.items() if name.startswith(f"{side}.")), size_px)
    if isinstance(image, BadImage):
        raise StoreCorrupt(f"the {side} of pair {key} cannot be used ({image.detail}); run stage pair again")
    return image


def _latents(images: list[Tensor], vae: Vae) -> Float[Tensor, "n c h w"]:
    """Means of the posterior, as the features keep them."""
    chunks = (images[first : first + ENCODE_BATCH] for first in range(0, len(images), ENCODE_BATCH))
    return torch.cat([vae.encode(torch.stack(chunk))[0].cpu() for chunk in chunks]).half()
