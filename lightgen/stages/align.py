"""CHECKPOINT + PAIR_FEATURES -> CHECKPOINT: direct preference optimisation, or a fine-tune on the winners. A job."""

import copy
from collections.abc import Iterator
from functools import partial
from typing import Literal

import torch
from pydantic import Field

from lightgen.config import QUIET, RUN, Config
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
from lightgen.training.data import Features, Winners, number_ids
from lightgen.training.features_on_disk import open_features
from lightgen.training.job import TrainingJob, TrainingSetup, build_checkpoint, training_shard
from lightgen.training.launch import LaunchConfig
from lightgen.training.loop import LoopConfig
from lightgen.training.objectives import MaskedDiffusion, Objective
from lightgen.training.optimizer import OptimizerConfig
from lightgen.training.output import SampleGrid
from lightgen.training.preference import LiveReference, PairErrorEstimator, PairWeights, Preference
from lightgen.training.problems import training_problems
from lightgen.work import Context, MakeShard, Work, Worker
from schemas.ref import ArtifactRef

STAGE = Stage("align", "checkpoint", revision=2)


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
    pair_weights: Literal["equal", "margin"] = Field(
        default="equal", description="dpo only; margin: pairs count in proportion to it", json_schema_extra=QUIET
    )
    labels: Literal["given", "shuffled"] = Field(
        default="given",
        description="dpo only; shuffled: a coin says which image of a pair is the winner, as a control",
        json_schema_extra=QUIET,
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
        for name, default in (("pair_weights", "equal"), ("labels", "given")):
            if self.objective != "dpo" and getattr(self, name) != default:
                yield Problem("recipe", name, f"objective {self.objective} knows no such thing", "leave it out")

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
    *further: ArtifactRef,
) -> ArtifactRef:
    """A checkpoint that goes on from `checkpoint` on the pairs `encoded`.

    `further` are the errors of its reference, where it was asked before, and the PAIRS whose margins count.
    """
    parents = [checkpoint, encoded, *further]
    return build_checkpoint(STAGE, config, parents, context, f"{__name__}:open")


def open(work: Work, worker: Worker) -> MakeShard:
    """See `lightgen.work`."""
    return training_shard(work, worker, prepare)


def prepare(job: TrainingJob, store: Store, device: str) -> TrainingSetup:
    """Student, objective and sample grid of a job on `device`."""
    config = AlignConfig.model_validate(job.config)
    checkpoint, encoded, *further = job.parents
    start = store.open(checkpoint)
    settings = checkpoint_config(start)
    data = open_features(store.open(encoded))
    student = load_student(start, config.start_weights).to(device)
    open_vae = partial(load_vae_of, settings.encoders, store, device)
    draw_samples = SampleGrid(data, open_vae, config.samples, config.sample_captions, job.folder, job.seed)
    objective = _objective(student, data, config, job.seed, [store.open(ref) for ref in further])
    return TrainingSetup(student, objective, draw_samples, settings, config.loop, config.launch, config.samples)


def _objective(student: Student, pairs: Features, config: AlignConfig, seed: int, further: list[Version]) -> Objective:
    if config.objective == "sft":
        return MaskedDiffusion(
            Winners(pairs), config.batch_size, config.noise_copies, seed, config.variance_bound, config.masks
        )
    estimator = PairErrorEstimator(config.noise_copies, seed, config.masks, config.reference_draws)
    by_kind = {version.ref.kind: version for version in further}
    asked, margins = by_kind.get("reference"), by_kind.get("pairs")
    # A copy of the student takes memory, so it is made only where the reference is asked in every step.
    ask = read_reference(asked) if asked else LiveReference(copy.deepcopy(student).requires_grad_(False))
    weights = read_weights(margins) if margins else None
    return Preference(pairs, ask, estimator, config.batch_size, config.beta, weights, config.labels == "shuffled")


def read_weights(pairs: Version) -> PairWeights:
    """How much each pair counts by its margin."""
    table = pairs.table(columns=["id", "margin"])
    margins = torch.from_numpy(table["margin"].to_numpy().copy())
    return PairWeights.of_margins(number_ids(table["id"].to_pylist()), margins)
