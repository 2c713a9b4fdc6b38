"""CHECKPOINT + PAIR_FEATURES + TEXTS -> CHECKPOINT: direct preference optimisation, or a fine-tune on winners.

A job.
"""

import copy
from collections.abc import Iterator
from functools import partial
from typing import Literal, Self

import torch
from pydantic import Field, model_validator

from lightgen.config import QUIET, RUN, Config
from lightgen.encoders.restore import load_vae_of
from lightgen.errors import ConfigError
from lightgen.generators.restore import Weights, checkpoint_config, load_student
from lightgen.model.masking import MaskLaw
from lightgen.model.sampling import SampleConfig
from lightgen.model.student import Student
from lightgen.problems import Problem
from lightgen.stages.reference import ReferenceConfig, check_reference, check_texts, read_reference
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
from lightgen.training.preference import LiveReference, PairErrorEstimator, PairWeights, Preference, Reference
from lightgen.training.problems import check_ratios, training_problems
from lightgen.training.texts_on_disk import open_texts
from lightgen.work import Context, MakeShard, Work, Worker
from schemas.ref import ArtifactRef

STAGE = Stage("align", "checkpoint", revision=4)


class AlignConfig(Config):
    """Alignment on preference pairs; the defaults are the paper's DPO (model_facts 3)."""

    objective: Literal["dpo", "sft"] = Field(default="dpo", description="sft: masked diffusion on the winners alone")
    beta: float = Field(default=5000.0, gt=0, description="strength of the preference; dpo only")
    batch_size: int = Field(default=2048, gt=0, description="pairs a step")
    noise_copies: int = Field(default=4, ge=1, description="noise levels a hidden token is seen at in one step")
    reference_draws: int | None = Field(
        default=None,
        ge=1,
        description="dpo only: masks and noises a pair is seen under before they repeat; the "
        "reference is then asked once for each and never in a step. None: always new ones, asked in every step",
    )
    pair_weights: Literal["equal", "margin"] = Field(
        default="equal", description="dpo only; margin: pairs count in proportion to it", json_schema_extra=QUIET
    )
    anchor: float = Field(
        default=0.0,
        ge=0,
        description="dpo only: how much a rise of the winner's error above the reference's counts against a pair "
        "(DPO-Positive)",
        json_schema_extra=QUIET,
    )
    labels: Literal["given", "shuffled"] = Field(
        default="given",
        description="dpo only; shuffled: a coin says which image of a pair is the winner, as a control",
        json_schema_extra=QUIET,
    )
    masks: MaskLaw = Field(default=MaskLaw(), description="share of hidden tokens")
    mask_ratios: int = Field(
        default=1, ge=1, description="different shares of hidden tokens in one step", json_schema_extra=QUIET
    )
    time_power: float = Field(
        default=1.0, gt=0, description="sft only: noise levels are u^power of the schedule, as in pretraining",
        json_schema_extra=QUIET,
    )  # fmt: skip
    variance_bound: bool = Field(default=True, description="sft only: train the variance of the sampler too")
    loop: LoopConfig = Field(
        default=LoopConfig(steps=312, optimizer=OptimizerConfig(lr=1e-8)), description="length and care of the run"
    )
    start_weights: Weights = Field(default="ema", description="which weights of the checkpoint to go on from")
    samples: SampleConfig = Field(
        default=SampleConfig(), description="how samples are drawn as training goes", json_schema_extra=RUN
    )
    sample_captions: int = Field(
        default=16, ge=1, description="captions of the grid drawn as training goes", json_schema_extra=RUN
    )
    launch: LaunchConfig = Field(
        default=LaunchConfig(), description="processes, and how they share the work", json_schema_extra=RUN
    )

    @model_validator(mode="after")
    def _named_precision(self) -> Self:
        if self.reference_draws is not None and self.objective == "dpo" and self.loop.precision == "auto":
            raise ValueError(
                "loop.precision: auto may be one where the reference is asked and another where it is compared with; "
                "with reference_draws say fp32, tf32 or bf16"
            )
        return self

    def problems(self) -> Iterator[Problem]:
        """See `Config.problems`."""
        yield from training_problems(self.batch_size, self.mask_ratios, self.loop, self.launch)
        if self.objective == "dpo" and self.loop.precision in ("auto", "bf16"):
            what = "DPO's loss is a small difference of large errors, which bfloat16 rounds away where it is native"
            yield Problem("recipe", "loop.precision", what, "take tf32 or fp32", "gap")
        if self.objective == "dpo" and self.time_power != 1:
            yield Problem("recipe", "time_power", "objective dpo knows no such thing", "leave it out")
        for name, default in (("pair_weights", "equal"), ("labels", "given"), ("anchor", 0.0)):
            if self.objective != "dpo" and getattr(self, name) != default:
                yield Problem("recipe", name, f"objective {self.objective} knows no such thing", "leave it out")

    @property
    def reference(self) -> ReferenceConfig | None:
        """How the reference is asked before training, where it is."""
        if self.objective != "dpo" or self.reference_draws is None:
            return None
        precision = self.loop.precision
        assert precision != "auto", "refused above"
        return ReferenceConfig(
            draws=self.reference_draws, noise_copies=self.noise_copies, masks=self.masks, weights=self.start_weights,
            precision=precision,
            batch_size=max(1, self.batch_size // (self.launch.size * self.launch.accumulate)),
        )  # fmt: skip


def align(
    checkpoint: ArtifactRef,
    encoded: ArtifactRef,
    texts: ArtifactRef,
    config: AlignConfig,
    context: Context,
    *further: ArtifactRef,
) -> ArtifactRef:
    """A checkpoint that goes on from `checkpoint` on the pairs `encoded`, with their `texts`.

    `further` are the errors of its reference, where it was asked before, and the PAIRS whose margins count.
    """
    parents = [checkpoint, encoded, texts, *further]
    return build_checkpoint(STAGE, config, parents, context, f"{__name__}:open")


def open(work: Work, worker: Worker) -> MakeShard:
    """See `lightgen.work`."""
    return training_shard(work, worker, prepare)


def prepare(job: TrainingJob, store: Store, device: str) -> TrainingSetup:
    """Student, objective and sample grid of a job on `device`."""
    config = AlignConfig.model_validate(job.config)
    checkpoint, encoded, texts, *further = job.parents
    check_ratios("align.mask_ratios", config.mask_ratios, config.launch)
    start = store.open(checkpoint)
    settings = checkpoint_config(start)
    data = open_features(store.open(encoded), open_texts(check_texts(store.open(texts), settings)))
    student = load_student(start, config.start_weights).to(device)
    open_vae = partial(load_vae_of, settings.encoders, store, device)
    draw_samples = SampleGrid(data, open_vae, config.samples, config.sample_captions, job.folder, job.seed)
    objective = _objective(student, data, config, job, [store.open(ref) for ref in further])
    return TrainingSetup(student, objective, draw_samples, settings, config.loop, config.launch, config.samples)


def _objective(
    student: Student, pairs: Features, config: AlignConfig, job: TrainingJob, further: list[Version]
) -> Objective:
    if config.objective == "sft":
        return MaskedDiffusion(
            Winners(pairs), config.batch_size, config.noise_copies, job.seed, config.variance_bound, config.masks,
            config.time_power, config.mask_ratios,
        )  # fmt: skip
    estimator = PairErrorEstimator(config.noise_copies, job.seed, config.masks, config.reference_draws)
    by_kind, device = {version.ref.kind: version for version in further}, student.null_text.device
    weights = read_weights(by_kind["pairs"]).to(device) if "pairs" in by_kind else None
    return Preference(
        pairs, _reference(student, config, job, by_kind.get("reference")), estimator, config.batch_size, config.beta,
        weights, config.labels == "shuffled", config.mask_ratios, config.anchor,
    )  # fmt: skip


def _reference(student: Student, config: AlignConfig, job: TrainingJob, asked: Version | None) -> Reference:
    """What was asked before, or a copy of the student: it takes memory, so it is made only where there is no other."""
    if asked is None:
        return LiveReference(copy.deepcopy(student).requires_grad_(False))
    if config.reference is None:
        raise ConfigError(f"{asked.ref} was given to an alignment without reference_draws; leave one of them out")
    check_reference(asked, config.reference, job.parents[:3], job.seed)
    return read_reference(asked).to(student.null_text.device)


def read_weights(pairs: Version) -> PairWeights:
    """How much each pair counts by its margin."""
    table = pairs.table(columns=["id", "margin"])
    margins = torch.from_numpy(table["margin"].to_numpy().copy())
    return PairWeights.of_margins(number_ids(table["id"].to_pylist()), margins)
