"""PROMPTS + SCORES of any number of generators -> REPORT: verdicts with intervals and paired differences.

The verdicts are GenEval's, or those of a judge that was asked questions of each caption: `questions.json` then holds
the mean probabilities of the right answers.

With SCORES of a feature network there is also how like a reference the pictures of each model are.

A decision: no image is opened. Memory: the verdicts of all models, and two shards of vectors. Time of the MMD grows
with the square of the images: four thousand of 768 numbers against as many took a core 2 s.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, ClassVar

import pyarrow as pa
from pydantic import Field

from lightgen.config import QUIET, RUN, Config
from lightgen.decisions.derive import Questions, Scenes
from lightgen.decisions.likeness import likeness
from lightgen.engines.build import build
from lightgen.errors import ConfigError, InputCorrupt
from lightgen.evaluation.geneval import Metadata, scene_meaning
from lightgen.evaluation.geneval_folder import read_metadata
from lightgen.evaluation.scoring import Bootstrap, at_gate, make_report
from lightgen.generators.config import GeneratorConfig
from lightgen.generators.restore import Weights
from lightgen.generators.student import StudentGeneratorConfig, UntrainedGeneratorConfig
from lightgen.model.sampling import SampleConfig
from lightgen.problems import Problem
from lightgen.scorers.config import ScorerConfig
from lightgen.stages.adopt import AdoptConfig
from lightgen.stages.best_of import BestOf, curves_file
from lightgen.stages.generate import GenerateConfig
from lightgen.stages.models import FolderModel, GeneratorModel, Model, Name, PublishedModel
from lightgen.stages.report_rows import AnyVerdict, Asked, Judging, Row, asked_of, means_file, verdict_rows
from lightgen.storage.plans import Stage
from lightgen.storage.shards import ShardOutput
from lightgen.storage.store import Store
from lightgen.storage.version import Version
from lightgen.texts import repaired
from lightgen.work import Context, MakeShard, Needs, Work, Worker
from schemas.ref import ArtifactRef
from schemas.report import SCHEMA, Published, PublishedTable

STAGE = Stage("evaluate", "report", revision=2)
TEACHER, UNTRAINED, REFERENCE = "teacher", "untrained", "reference"
FEATURES = "features-test-"  # in names of steps, before that of a model
BEST_OF = "best-of-test-"  # in names of steps, before that of a model


class EvaluateConfig(Config):
    """Who draws, who looks, what counts as right, and what the report shows."""

    GONE: ClassVar[Mapping[str, str]] = {
        "teacher": "write models: {teacher: {kind: generator, generator: {…}, size_px: …}}; without one, models: {}",
        "size_px": "each of models has its own; a student draws at the size it was trained at",
    }

    detector: ScorerConfig = Field(description="who looks at the images", json_schema_extra=RUN)
    verdict: AnyVerdict = Field(default=Scenes(), discriminator="kind", description="what counts as right")
    gates: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        default=(),
        description="further overlaps (IoU) at which the same scores are judged, beside the verdict's; scenes only",
        json_schema_extra=QUIET,
    )
    features: ScorerConfig | None = Field(
        default=None,
        description="a network (embedding, or layout, which is none) in whose space pictures are compared",
        json_schema_extra=RUN,
    )
    reference: str = Field(
        default=TEACHER,
        description="whom pictures are compared with: a model of the report, or images@version, as of photographs",
        json_schema_extra=RUN,
    )
    best_of: BestOf | None = Field(
        default=None,
        description="the curve of the score by N, the best of N images by a scorer",
        json_schema_extra=QUIET,
    )
    sample: SampleConfig = Field(default=SampleConfig(), description="how students draw", json_schema_extra=RUN)
    weights: Weights = Field(
        default="ema", description="of the students; ema: their moving average", json_schema_extra=RUN
    )
    samples_per_prompt: int = Field(default=4, ge=1, description="GenEval draws 4")
    models: dict[Name, Model] = Field(
        default={},
        description="who is judged beside the students, by its name in the report; `teacher` stands first there",
        json_schema_extra=RUN,
    )
    untrained: bool = Field(default=True, description="judge freshly initialised weights too", json_schema_extra=RUN)
    metadata: str | None = Field(
        default=None, description="GenEval JSONL, for prompts that are no scene captions", json_schema_extra=RUN
    )
    resamples: int = Field(default=2000, ge=100, description="of the bootstrap")
    batch_size: int = Field(default=128, gt=0, description="images drawn together", json_schema_extra=RUN)
    exhibits_per_task: int = Field(
        default=6, ge=1, description="prompts of each task on the page", json_schema_extra=RUN
    )
    usd_per_hour: float = Field(
        default=0.0, ge=0, description="price of the machine; 0 shows machine-hours", json_schema_extra=RUN
    )
    max_reject_fraction: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="share of rows that may be refused; more end the stage",
        json_schema_extra=RUN,
    )

    def problems(self) -> Iterator[Problem]:
        """See `Config.problems`: metadata that cannot be read, a verdict of other scores, a reference nobody draws."""
        try:
            read_metadata(self.metadata)
        except InputCorrupt as error:
            yield Problem("here", "metadata", str(error), "fetch GenEval's prompts/evaluation_metadata.jsonl")
        if self.verdict.column not in self.detector.ANSWERS.names:
            what = f"{self.verdict.kind} reads {self.verdict.column}, and {self.detector.kind} gives no such column"
            yield Problem(
                "recipe", "verdict", what, "take a detector: scenes or mask2former, or vlm with a file of questions"
            )
        elif (self.verdict.kind == "scenes") != (self.detector.kind == "scenes"):
            what = f"the scores of {self.detector.kind} are no {self.verdict.kind} overlaps, so its threshold is wrong"
            yield Problem("recipe", "verdict", what, "take the verdict of the detector's kind")
        if self.gates and self.verdict.kind != "scenes":
            what = f"verdict {self.verdict.kind} asks for no overlap, so there is no other one to ask for"
            yield Problem("recipe", "gates", what, "leave gates out, or take the verdict scenes")
        if self.features is not None and self.features.network is None:
            what = f"{self.features.kind} gives no vectors"
            yield Problem("recipe", "features", what, "take embedding with a model, or layout")
        if self.features is not None and self.reference == TEACHER and TEACHER not in self.models:
            yield Problem("recipe", "reference", "models has no teacher", "name one there, or give images@version")

        if self.best_of is not None and self.best_of.most > self.samples_per_prompt:
            what = f"the best of {self.best_of.most} of {self.samples_per_prompt} images a prompt"
            yield Problem("recipe", "best_of.most", what, "lower it, or raise samples_per_prompt")

    def generators(self, students: Sequence[str]) -> dict[str, GenerateConfig]:
        """What draws the test captions, by the name of the model in the report. Raises ConfigError for a name twice."""
        others = {name: one for name, one in self.models.items() if isinstance(one, GeneratorModel)}
        drawn = {name: self._drawing(one.generator, one.size_px, one.batch) for name, one in others.items()}
        found = {name: drawing for name, drawing in drawn.items() if name == TEACHER}
        if self.untrained and students:
            found[UNTRAINED] = self._drawing(UntrainedGeneratorConfig(weights=self.weights, sample=self.sample))
        student = StudentGeneratorConfig(weights=self.weights, sample=self.sample)
        found |= {name: self._drawing(student) for name in students}
        if twice := sorted(self.models.keys() & {*students, UNTRAINED, REFERENCE}):
            raise ConfigError(
                f"evaluate.models: {', '.join(twice)} is what the report calls another; take another name"
            )
        return found | drawn

    @property
    def folders(self) -> dict[str, AdoptConfig]:
        """Pictures of the test captions that are there, by the name of the model in the report."""
        found = {name: one for name, one in self.models.items() if isinstance(one, FolderModel)}
        return {name: AdoptConfig(folder=one.path, licence=one.licence) for name, one in found.items()}

    @property
    def published(self) -> tuple[PublishedTable, ...]:
        """Tables of others. Raises InputCorrupt, ConfigError."""
        return tuple(table for one in self.models.values() if isinstance(one, PublishedModel) for table in one.read())

    def _drawing(
        self, generator: GeneratorConfig, size_px: int | None = None, batch: int | None = None
    ) -> GenerateConfig:
        return GenerateConfig(
            generator=generator, size_px=size_px, samples_per_prompt=self.samples_per_prompt, format="png",
            batch=batch or self.batch_size, max_reject_fraction=self.max_reject_fraction,
        )  # fmt: skip


class _Work(Config):
    """The settings with the names of the models, in the order of the parents."""

    models: tuple[str, ...]
    verdict: AnyVerdict = Field(discriminator="kind")
    gates: tuple[float, ...] = Field(default=(), json_schema_extra=QUIET)
    samples_per_prompt: int
    resamples: int
    network: str = Field(default="", json_schema_extra=QUIET)
    reference: str = Field(default=TEACHER, json_schema_extra=QUIET)
    best_of: BestOf | None = Field(default=None, json_schema_extra=QUIET)
    published: tuple[PublishedTable, ...] = Field(default=(), json_schema_extra=QUIET)
    metadata: str | None = Field(json_schema_extra=RUN)
    max_reject_fraction: float = Field(json_schema_extra=RUN)


def evaluate(
    prompts: ArtifactRef, scores: Mapping[str, ArtifactRef], config: EvaluateConfig, context: Context,
    features: Mapping[str, ArtifactRef] | None = None,
    best: Mapping[str, ArtifactRef] | None = None,
) -> ArtifactRef:  # fmt: skip
    """A sealed report over the scores of each model, in their order; differences are to the first trained student.

    `features` are SCORES of `config.features` by model, and of REFERENCE where that is none of the models; `best` are
    those of `config.best_of.scorer` by model.
    """
    if not scores:
        raise ConfigError("evaluate: no model to judge; give the scores of at least one")
    if config.best_of is not None and set(best or {}) != set(scores):
        raise ConfigError(f"evaluate.best_of: give the scores of its scorer for {', '.join(scores)}")
    _, digest = read_metadata(config.metadata)
    vectors = _vectors(features or {}, scores, config)
    settings = _Work(
        models=tuple(scores), verdict=config.verdict, gates=config.gates, samples_per_prompt=config.samples_per_prompt,
        resamples=config.resamples, network=(config.features and config.features.network) or "" if vectors else "",
        reference=config.reference if vectors else TEACHER, best_of=config.best_of, published=config.published,
        metadata=config.metadata, max_reject_fraction=config.max_reject_fraction,
    )  # fmt: skip
    parents = [prompts, *scores.values(), *vectors, *((best or {})[name] for name in scores if config.best_of)]
    plan = STAGE.plan(settings, context.seed, parents, 1, {"metadata_sha256": digest})
    total = len(scores) * prompts.rows * config.samples_per_prompt
    needs = Needs(sort="decision", unit="images", total=total)
    return build(Work.of(plan, settings, parents, context, f"{__name__}:open", needs), context)


def open(work: Work, worker: Worker) -> MakeShard:
    """See `lightgen.work`."""
    settings = _Work.model_validate(work.config)
    prompts, *judged = (worker.store.open(ref) for ref in work.parents)
    count = len(settings.models)
    scores, further = judged[:count], judged[count:]
    vectors, best = (further[:-count], further[-count:]) if settings.best_of else (further, [])
    known, _ = read_metadata(settings.metadata)

    def meaning(caption: str) -> Metadata | None:
        return known.get(repaired(caption)) or scene_meaning(caption)

    def judging(verdict: AnyVerdict) -> Judging:
        return Judging(verdict, meaning, settings.samples_per_prompt)

    def rows_at(verdict: AnyVerdict, asked: Sequence[Asked]) -> dict[str, list[Row]]:
        named = zip(settings.models, scores, strict=True)
        return {name: list(verdict_rows(name, version, asked, judging(verdict))) for name, version in named}

    def make_shard(_: int) -> ShardOutput:
        asked, rejects = asked_of(prompts, scores, judging(settings.verdict))
        rows, bootstrap = rows_at(settings.verdict, asked), Bootstrap(settings.resamples, work.plan.seed)
        worker.progress.advance(sum(map(len, rows.values())))
        checkpoints = {name: checkpoint_of(one, worker.store) for name, one in zip(rows, scores, strict=True)}
        report = make_report(rows, checkpoints, settings.verdict.kind, bootstrap)
        if isinstance(settings.verdict, Scenes):
            gates = [
                at_gate(verdict.sure, rows_at(verdict, asked), checkpoints, bootstrap)
                for verdict in _at_other_gates(settings.verdict, settings.gates)
            ]
            report = report.model_copy(update={"sure": settings.verdict.sure, "gates": gates})
        if vectors:
            named, other = dict(zip(settings.models, vectors, strict=False)), vectors[len(settings.models) :]
            found = likeness(settings.network, settings.reference, named, *other)
            report = report.model_copy(update={"likeness": found})
        table = pa.Table.from_pylist([row for one in rows.values() for row in one], schema=SCHEMA)
        files = {"report.json": report.model_dump_json(indent=1).encode()}
        if isinstance(settings.verdict, Questions):
            named = dict(zip(settings.models, scores, strict=True))
            files["questions.json"] = means_file(named, asked, judging(settings.verdict))
        if settings.published:
            files["published.json"] = Published(tables=list(settings.published)).model_dump_json(indent=1).encode()
        if settings.best_of is not None:
            named = dict(zip(settings.models, best, strict=True))
            files["best_of.json"] = curves_file(settings.best_of, rows, named)
        count = table.num_rows + len(rejects)
        return ShardOutput(table=table, schema=SCHEMA, rows_in=count, rejects=rejects, files=files)

    return make_shard


def _vectors(
    features: Mapping[str, ArtifactRef], scores: Mapping[str, ArtifactRef], config: EvaluateConfig
) -> list[ArtifactRef]:
    """Features of the models, in their order, then those of a reference that is none of them. Raises ConfigError."""
    if not features:
        return []
    wanted = [*scores, *([] if config.reference in scores else [REFERENCE])]
    if missing := [name for name in wanted if name not in features]:
        raise ConfigError(f"evaluate: no features of {', '.join(missing)}; reference is {config.reference!r}")
    return [features[name] for name in wanted]


def _at_other_gates(verdict: Scenes, gates: Sequence[float]) -> list[Scenes]:
    """The verdict at each further overlap, the greatest first."""
    return [verdict.model_copy(update={"sure": sure}) for sure in sorted(set(gates) - {verdict.sure}, reverse=True)]


def checkpoint_of(scores: Version, store: Store) -> str | None:
    """Content of the checkpoint whose images were scored; None where no trained student drew them."""
    images = store.open(scores.parent("images"))
    generator = images.plan.config.get("generator")  # images that nothing here drew have none
    if isinstance(generator, dict) and generator["kind"] == UNTRAINED:
        return None
    return next((parent.content for parent in images.parents if parent.kind == "checkpoint"), None)
