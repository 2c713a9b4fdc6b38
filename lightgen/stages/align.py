"""CHECKPOINT + PAIR_FEATURES -> CHECKPOINT: direct preference optimisation, or a fine-tune on the winners. A job."""

import copy
from collections.abc import Iterator
from functools import partial
from typing import Literal

from pydantic import Field

from lightgen.config import RUN, Config
from lightgen.encoders.restore import load_vae_of
from lightgen.generators.restore import Weights, checkpoint_config, load_student
from lightgen.model.masking import MaskLaw
from lightgen.model.sampling import SampleConfig
from lightgen.model.student import Student
from lightgen.problems import Problem
from lightgen.stages.reference import ReferenceConfig, read_reference
from lightgen.storage.plans import Stage
from lightgen.storage.store import Store
from lightgen.storage.version import Version
from lightgen.training.data import Features, Winners
from lightgen.training.features_on_disk import open_features
from lightgen.training.job import TrainingJob, TrainingSetup, build_checkpoint, training_shard
from lightgen.training.launch import LaunchConfig
from lightgen.training.loop import LoopConfig
from lightgen.training.objectives import MaskedDiffusion, Objective
from lightgen.training.optimizer import OptimizerConfig
from lightgen.training.output import SampleGrid
from lightgen.training.preference import LiveReference, PairErrorEstimator, Preference
from lightgen.training.problems import training_problems
from lightgen.work import Context, MakeShard, Work, Worker
from schemas.ref import ArtifactRef

STAGE = Stage("align", "checkpoint", revision=1)


class AlignConfig(Config):
    """Alignment on preference pairs; the defaults are the paper's DPO (model_facts 3)."""

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
    samples: SampleConfig = Field(
        default=SampleConfig(), description="how samples are drawn as training goes", json_schema_extra=RUN
    )
    sample_captions: int = Field(
        default=16, ge=1, description="captions of the grid drawn as training goes", json_schema_extra=RUN
    )
    launch: LaunchConfig = Field(default=LaunchConfig(), json_schema_extra=RUN)

    def problems(self) -> Iterator[Problem]:
        """See `Config.problems`."""
        yield from training_problems(self.batch_size, self.loop, self.launch)
        if self.objective == "dpo" and self.loop.precision != "fp32":
            what = "DPO's loss is a small difference of large errors, which bfloat16 rounds away where it is native"
            yield Problem("recipe", "loop.precision", what, "take fp32", "gap")

    @property
    def reference(self) -> ReferenceConfig | None:
        """How the reference is asked before training, where it is."""
        if self.objective != "dpo" or self.reference_draws is None:
            return None
        return ReferenceConfig(
            draws=self.reference_draws, noise_copies=self.noise_copies, masks=self.masks, weights=self.start_weights,
            batch_size=max(1, self.batch_size // (self.launch.size * self.launch.accumulate)),
        )  # fmt: skip


def align(
    checkpoint: ArtifactRef,
    encoded: ArtifactRef,
    config: AlignConfig,
    context: Context,
    asked: ArtifactRef | None = None,
) -> ArtifactRef:
    """A checkpoint that goes on from `checkpoint` on the pairs `encoded`; `asked` are the errors of its reference."""
    parents = [checkpoint, encoded, *([asked] if asked else [])]
    return build_checkpoint(STAGE, config, parents, context, f"{__name__}:open")


def open(work: Work, worker: Worker) -> MakeShard:
    """See `lightgen.work`."""
    return training_shard(work, worker, prepare)


def prepare(job: TrainingJob, store: Store, device: str) -> TrainingSetup:
    """Student, objective and sample grid of a job on `device`."""
    config = AlignConfig.model_validate(job.config)
    checkpoint, encoded, *asked = job.parents
    start = store.open(checkpoint)
    settings = checkpoint_config(start)
    data = open_features(store.open(encoded))
    student = load_student(start, config.start_weights).to(device)
    open_vae = partial(load_vae_of, settings.encoders, store, device)
    draw_samples = SampleGrid(data, open_vae, config.samples, config.sample_captions, job.folder, job.seed)
    objective = _objective(student, data, config, job.seed, [store.open(ref) for ref in asked])
    return TrainingSetup(student, objective, draw_samples, settings, config.loop, config.launch, config.samples)


def _objective(student: Student, pairs: Features, config: AlignConfig, seed: int, asked: list[Version]) -> Objective:
    if config.objective == "sft":
        return MaskedDiffusion(
            Winners(pairs), config.batch_size, config.noise_copies, seed, config.variance_bound, config.masks
        )
    estimator = PairErrorEstimator(config.noise_copies, seed, config.masks, config.reference_draws)
    # A copy of the student takes memory, so it is made only where the reference is asked in every step.
    ask = read_reference(asked[0]) if asked else LiveReference(copy.deepcopy(student).requires_grad_(False))
    return Preference(pairs, ask, estimator, config.batch_size, config.beta)
