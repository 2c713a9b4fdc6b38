"""FEATURES + TEXTS -> CHECKPOINT: trains the student on masked diffusion at one resolution. A job."""

from collections.abc import Iterator
from functools import partial
from typing import Any

from pydantic import Field

from lightgen.config import RUN, Config
from lightgen.encoders.restore import Encoders, load_vae_of, read_image_encoding, read_text_encoding
from lightgen.encoders.text import check_padding
from lightgen.errors import ConfigError
from lightgen.generators.restore import CheckpointConfig, Weights, load_student
from lightgen.model.config import PRESETS, StudentConfig
from lightgen.model.masking import MaskLaw
from lightgen.model.sampling import SampleConfig
from lightgen.model.student import Student
from lightgen.problems import Problem
from lightgen.seeds import derive_seed
from lightgen.storage.plans import Stage
from lightgen.storage.store import Store
from lightgen.training.features_on_disk import open_features
from lightgen.training.job import TrainingJob, TrainingSetup, build_checkpoint, training_shard
from lightgen.training.launch import LaunchConfig
from lightgen.training.loop import LoopConfig
from lightgen.training.objectives import MaskedDiffusion
from lightgen.training.output import SampleGrid
from lightgen.training.problems import check_ratios, training_problems
from lightgen.training.texts_on_disk import open_texts
from lightgen.training.weights import resize_positions
from lightgen.work import Context, MakeShard, Work, Worker
from schemas.ref import ArtifactRef

STAGE = Stage("pretrain", "checkpoint", revision=4)


class PretrainConfig(Config):
    """Training at one resolution; the defaults are the paper's 256 px stage."""

    student: StudentConfig | str = Field(default="lightgen-0.7b", description="sizes, or the name of a preset")
    loop: LoopConfig = Field(default=LoopConfig(), description="length and care of the run")
    batch_size: int = Field(default=2048, gt=0, description="images a step, over all processes")
    noise_copies: int = Field(default=4, ge=1, description="noise levels a masked token is trained at in one step")
    masks: MaskLaw = Field(default=MaskLaw(), description="share of hidden tokens")
    mask_ratios: int = Field(
        default=1, ge=1, description="different shares of hidden tokens in one step; the published code has one a GPU"
    )
    time_power: float = Field(
        default=1.0, gt=0, description="noise levels are u^power of the schedule; below 1: coarse noise more often"
    )
    variance_bound: bool = Field(default=True, description="train the variance of the sampler too")
    start_weights: Weights = Field(default="ema", description="which weights of `start` to go on from")
    grid: int | None = Field(default=None, gt=0, description="resize the position tables of `start` to this side")
    samples: SampleConfig = Field(
        default=SampleConfig(), description="how samples are drawn as training goes", json_schema_extra=RUN
    )
    sample_captions: int = Field(
        default=16, ge=1, description="captions of the grid drawn as training goes", json_schema_extra=RUN
    )
    launch: LaunchConfig = Field(
        default=LaunchConfig(), description="processes, and how they share the work", json_schema_extra=RUN
    )

    def problems(self) -> Iterator[Problem]:
        """See `Config.problems`."""
        yield from training_problems(self.batch_size, self.mask_ratios, self.loop, self.launch)
        try:
            self.sizes()
        except ConfigError as error:
            yield Problem("recipe", "student", str(error), "change it")
        if self.launch.compile and self.masks.visible_multiple == 1:
            what = "blocks are compiled again for every number of visible tokens"
            yield Problem(
                "recipe", "masks.visible_multiple", what, "8 leaves 11 of them at 256 px, in place of 77", "remark"
            )

    def content(self) -> dict[str, Any]:
        """See `Config.content`: a student is named by its sizes, not by the preset that they were given as."""
        return super().content() | {"student": self.sizes().content()}

    def sizes(self) -> StudentConfig:
        """The student's sizes, names resolved."""
        if self.known_sizes is None:
            raise ConfigError(f"pretrain.student: no preset {self.student!r}; there are {', '.join(PRESETS)}")
        return self.known_sizes

    @property
    def known_sizes(self) -> StudentConfig | None:
        """The student's sizes; None for a name that is no preset."""
        return self.student if isinstance(self.student, StudentConfig) else PRESETS.get(self.student)


def pretrain(
    features: ArtifactRef,
    texts: ArtifactRef,
    config: PretrainConfig,
    context: Context,
    start: ArtifactRef | None = None,
) -> ArtifactRef:
    """A sealed checkpoint; with `start` training goes on from its weights, and its sizes are used."""
    parents = [features, texts] if start is None else [features, texts, start]
    return build_checkpoint(STAGE, config, parents, context, f"{__name__}:open")


def open(work: Work, worker: Worker) -> MakeShard:
    """See `lightgen.work`."""
    return training_shard(work, worker, prepare)


def prepare(job: TrainingJob, store: Store, device: str) -> TrainingSetup:
    """Student, objective and sample grid of a job on `device`."""
    config = PretrainConfig.model_validate(job.config)
    features, texts = (store.open(ref) for ref in job.parents[:2])
    start = job.parents[2:]
    data = open_features(features, open_texts(texts))
    encoders = Encoders.of(read_image_encoding(features), read_text_encoding(texts))
    student = _first_student(config, store, start[0] if start else None, job.seed).to(device)
    check_features(student, data.latent_shape, data.text_dim)
    check_padding(student.config.attend_padding, bool(encoders.text.get("padded")))
    check_ratios("pretrain.mask_ratios", config.mask_ratios, config.launch)
    open_vae = partial(load_vae_of, encoders, store, device)
    draw_samples = SampleGrid(data, open_vae, config.samples, config.sample_captions, job.folder, job.seed)
    objective = MaskedDiffusion(
        data, config.batch_size, config.noise_copies, job.seed, config.variance_bound, config.masks, config.time_power,
        config.mask_ratios,
    )  # fmt: skip
    settings = CheckpointConfig(student=student.config, encoders=encoders, steps=0)
    return TrainingSetup(student, objective, draw_samples, settings, config.loop, config.launch, config.samples)


def _first_student(config: PretrainConfig, store: Store, start: ArtifactRef | None, seed: int) -> Student:
    if start is None:
        return Student(config.sizes()).init(derive_seed(seed, "student"))
    student = load_student(store.open(start), config.start_weights)
    return student if config.grid is None else resize_positions(student, config.grid)


def check_features(student: Student, shape: tuple[int, int, int], text_dim: int) -> None:
    """Refuse features that the student cannot read."""
    sizes = student.config
    if sizes.text_dim != text_dim:
        raise ConfigError(f"pretrain.student.text_dim is {sizes.text_dim}, the features' text has {text_dim} channels")
    if sizes.latent_channels != shape[0] or shape[1] % sizes.patch or shape[2] % sizes.patch:
        raise ConfigError(
            f"pretrain.student has latent_channels {sizes.latent_channels} and patch {sizes.patch}, "
            f"which do not fit latents of {shape}"
        )
