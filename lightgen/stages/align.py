"""CHECKPOINT + PAIRS -> CHECKPOINT: direct preference optimisation, or its control, a fine-tune on the winners."""

import copy
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from lightgen.encoders.restore import load_vae_of
from lightgen.model.masking import MaskLaw
from lightgen.model.restore import Weights, checkpoint_config, load_student
from lightgen.model.sampling import SampleConfig
from lightgen.model.student import Student
from lightgen.progress import SILENT, Progress
from lightgen.settings import Device, pick_device
from lightgen.stages.encode_pairs import encode_pairs
from lightgen.stages.reference import ReferenceConfig, read_reference, reference
from lightgen.storage.store import Store
from lightgen.storage.version import Version
from lightgen.training.data import Features, Winners
from lightgen.training.features_on_disk import open_features
from lightgen.training.job import TrainingJob, TrainingSetup, build_checkpoint
from lightgen.training.launch import LaunchConfig
from lightgen.training.loop import LoopConfig
from lightgen.training.objectives import MaskedDiffusion, Objective
from lightgen.training.optimizer import OptimizerConfig
from lightgen.training.output import sample_grid
from lightgen.training.preference import LiveReference, PairErrorEstimator, Preference
from schemas.ref import ArtifactRef


class AlignConfig(BaseModel):
    """Alignment on preference pairs; the defaults are the paper's DPO (model_facts 3)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    objective: Literal["dpo", "sft"] = Field(default="dpo", description="sft: masked diffusion on the winners alone")
    beta: float = Field(default=5000.0, gt=0, description="strength of the preference; dpo only")
    batch_size: int = Field(default=2048, gt=0, description="pairs a step")
    noise_copies: int = Field(default=4, ge=1)
    reference_draws: int | None = Field(
        default=None,
        ge=1,
        description="dpo only: masks and noises a pair is seen under before they repeat; the "
        "reference is then asked once for each and never in a step. None: always new ones, asked in every step",
    )
    masks: MaskLaw = MaskLaw()
    variance_bound: bool = Field(default=True, description="sft only: train the variance of the sampler too")
    loop: LoopConfig = LoopConfig(steps=312, optimizer=OptimizerConfig(lr=1e-8))
    start_weights: Weights = "ema"
    samples: SampleConfig = SampleConfig()
    sample_captions: int = Field(default=16, ge=1)
    device: Device = "auto"
    launch: LaunchConfig = LaunchConfig()

    def content(self) -> "AlignConfig":
        """Without where it runs."""
        return self.model_copy(update={"device": "auto", "launch": LaunchConfig()})


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
    trained_on = checkpoint_config(store.open(checkpoint)).features
    encoded = encode_pairs(pairs, trained_on, store, device=config.device, progress=progress)
    parents = [checkpoint, encoded, *_asked_before(checkpoint, encoded, config, store, seed, progress)]
    return build_checkpoint("align", prepare, config, parents, [__name__], store, seed, progress)


def prepare(job: TrainingJob, store: Store, local_rank: int = 0) -> TrainingSetup:
    """Student, objective and sample grid of a job, on the device of process `local_rank`."""
    config = AlignConfig.model_validate(job.config)
    checkpoint, encoded, *asked = job.parents
    start, device = store.open(checkpoint), pick_device(config.device, local_rank)
    settings = checkpoint_config(start)
    data = open_features(store.open(encoded))
    student = load_student(start, config.start_weights).to(device)
    vae = load_vae_of(store.open(settings.features), store, device)
    draw_samples = sample_grid(data, vae, config.samples, config.sample_captions, job.folder, job.seed)
    objective = _objective(student, data, config, job.seed, [store.open(ref) for ref in asked])
    return TrainingSetup(student, objective, draw_samples, settings, config.loop, config.launch)


def _asked_before(
    checkpoint: ArtifactRef, encoded: ArtifactRef, config: AlignConfig, store: Store, seed: int, progress: Progress
) -> list[ArtifactRef]:
    """The errors of the reference as an artifact of their own, where they are wanted."""
    if config.objective != "dpo" or config.reference_draws is None:
        return []
    settings = ReferenceConfig(
        draws=config.reference_draws, noise_copies=config.noise_copies, masks=config.masks,
        weights=config.start_weights, batch_size=config.batch_size, device=config.device,
    )  # fmt: skip
    return [reference(checkpoint, encoded, settings, store, seed=seed, progress=progress)]


def _objective(student: Student, pairs: Features, config: AlignConfig, seed: int, asked: list[Version]) -> Objective:
    if config.objective == "sft":
        return MaskedDiffusion(
            Winners(pairs), config.batch_size, config.noise_copies, seed, config.variance_bound, config.masks
        )
    estimator = PairErrorEstimator(config.noise_copies, seed, config.masks, config.reference_draws)
    live = LiveReference(copy.deepcopy(student).requires_grad_(False))
    return Preference(pairs, read_reference(asked[0]) if asked else live, estimator, config.batch_size, config.beta)
