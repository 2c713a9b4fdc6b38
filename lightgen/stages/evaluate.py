"""PROMPTS + CHECKPOINTS -> REPORT: every model draws the same prompts with the same seeds, and GenEval's rules judge.

Scores, intervals and pictures come out as `report.json`, `report.html` and `grid.png`; the rows are the verdicts.
"""

from collections.abc import Iterator
from dataclasses import replace

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

import lightgen.evaluation
import lightgen.model
import lightgen.scenes
from lightgen.errors import ConfigError
from lightgen.evaluation.detectors import DetectorConfig
from lightgen.generators.config import TeacherConfig, make_teacher, teacher_modules
from lightgen.generators.restore import Weights
from lightgen.generators.sampler import Sampler
from lightgen.model.sampling import SampleConfig
from lightgen.model.student import Student
from lightgen.pages.files import Settings, report_files
from lightgen.progress import SILENT, Progress
from lightgen.seeds import derive_seed
from lightgen.settings import Device, pick_device
from lightgen.stages.exam import Exam, Judged, Painter, read_exam
from lightgen.storage.build import ShardOutput, build, make_plan
from lightgen.storage.store import Store
from schemas.ref import ArtifactRef
from schemas.report import SCHEMA

UNTRAINED = "untrained"
Models = dict[str, ArtifactRef | None]


class EvaluateConfig(BaseModel):
    """What is drawn, who judges, and what the report shows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    detector: DetectorConfig
    sample: SampleConfig = SampleConfig()
    weights: Weights = "ema"
    samples_per_prompt: int = Field(default=4, ge=1, description="GenEval draws 4")
    teacher: TeacherConfig | None = Field(default=None, description="draws for the models that have no checkpoint")
    size_px: int = Field(default=512, gt=0, description="of the teacher's images; a student draws at its own size")
    untrained: bool = Field(default=True, description="judge freshly initialised weights too")
    metadata: str | None = Field(default=None, description="GenEval JSONL, for prompts that are no scene captions")
    resamples: int = Field(default=2000, ge=100, description="of the bootstrap")
    batch_size: int = Field(default=128, gt=0, description="images drawn and judged together")
    exhibits_per_task: int = Field(default=6, ge=1, description="prompts of each task on the page")
    usd_per_hour: float = Field(default=0.0, ge=0, description="price of the machine; 0 shows machine-hours")
    max_reject_fraction: float = Field(default=0.5, gt=0, le=1)
    device: Device = "auto"

    def content(self) -> "EvaluateConfig":
        """Without where it runs and whether it is accepted; the batch stays, as it moves the last bits of a sample."""
        return self.model_copy(update={"max_reject_fraction": 1.0, "device": "auto"})


def evaluate(
    prompts: ArtifactRef,
    models: Models,
    config: EvaluateConfig,
    store: Store,
    *,
    seed: int,
    progress: Progress = SILENT,
) -> ArtifactRef:
    """A sealed report over `models` (None: the teacher); differences are to the first one with a checkpoint."""
    _check(models, config)
    trained = {ref.version: ref for ref in models.values() if ref}
    stages = ["lightgen.generators.sampler", "lightgen.stages.exam", "lightgen.stages.evaluate"]
    modules = [lightgen.model, lightgen.evaluation, lightgen.scenes, *stages]
    teachers = [config.teacher] if config.teacher else []
    modules += [module for teacher in teachers for module in teacher_modules(teacher)]
    exam = read_exam(store.open(prompts), config.metadata, config.samples_per_prompt, seed)
    plan = make_plan(
        "report", "evaluate", modules, config.content(), seed, [prompts, *trained.values()], 1,
        models=[*(make_teacher(teacher).identity() for teacher in teachers), config.detector.make().identity()],
        extra={
            "models": [[name, ref.version if ref else None] for name, ref in models.items()],
            "metadata_sha256": exam.metadata_sha256,
        },
    )  # fmt: skip

    def make_shard(_: int) -> ShardOutput:
        judged = list(_judge_all(exam, models, config, store, seed, progress))
        rows = [row for one in judged for row in one.rows]
        rejects = [*exam.rejects, *(reject for one in judged for reject in one.rejects)]
        files = report_files(exam, judged, models, prompts, _settings(config, plan.version, seed), store)
        table = pa.Table.from_pylist(rows, schema=SCHEMA)
        return ShardOutput(table=table, rows_in=len(rows) + len(rejects), rejects=rejects, files=files)

    return build(store, plan, make_shard, SCHEMA, max_reject_fraction=config.max_reject_fraction, unit="images")


def _settings(config: EvaluateConfig, version: str, seed: int) -> Settings:
    return Settings(
        version=version,
        detector=config.detector.kind,
        samples_per_prompt=config.samples_per_prompt,
        resamples=config.resamples,
        seed=seed,
        usd_per_hour=config.usd_per_hour,
        exhibits_per_task=config.exhibits_per_task,
    )


def _check(models: Models, config: EvaluateConfig) -> None:
    if not models:
        raise ConfigError("evaluate: no model to judge; give at least one checkpoint")
    if None in models.values() and config.teacher is None:
        raise ConfigError("evaluate.teacher is not set, but one of the models is the teacher")
    if UNTRAINED in models and config.untrained:
        raise ConfigError(f"evaluate: {UNTRAINED!r} is the name of the fresh weights; call that model otherwise")


def _judge_all(
    exam: Exam, models: Models, config: EvaluateConfig, store: Store, seed: int, progress: Progress
) -> Iterator[Judged]:
    """Each model in turn, the fresh weights after the teacher."""
    names = list(models)
    first = next((name for name in names if models[name]), None)
    if config.untrained and first is not None:
        names.insert(names.index(first), UNTRAINED)
    detector = config.detector.make()
    progress.start("evaluate", len(names) * len(exam.jobs), "images")
    for name in names:
        ref = models[first] if name == UNTRAINED and first is not None else models[name]
        painter = _painter(ref, name == UNTRAINED, config, store, seed)
        yield exam.sit(name, painter, detector, config.batch_size, config.exhibits_per_task, progress)
    progress.finish()


def _painter(ref: ArtifactRef | None, fresh: bool, config: EvaluateConfig, store: Store, seed: int) -> Painter:
    """What draws for one model."""
    if ref is None:
        assert config.teacher is not None, "checked before"
        teacher = make_teacher(config.teacher)
        return lambda captions, seeds: teacher.generate(captions, seeds, config.size_px)
    device = pick_device(config.device)
    sampler = Sampler.from_checkpoint(store.open(ref), store, device, config.weights)
    if fresh:
        student = Student(sampler.student.config).init(derive_seed(seed, UNTRAINED))
        sampler = replace(sampler, student=student.to(device).eval())
    return lambda captions, seeds: list(sampler.images(captions, seeds, config.sample))
