"""PROMPTS -> IMAGES: a generator draws every prompt, each image from a seed of its own.

A map: a shard of prompts gives a shard of images. Memory: the encoded files of one shard. What other versions hold of
the same generator is taken over, and batches of a slow or paid generator are journalled: see `lightgen.storage.reuse`
and `lightgen.storage.journal`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import pyarrow as pa
from pydantic import Field, model_validator

from lightgen.config import QUIET, RUN, Config
from lightgen.engines.build import build
from lightgen.errors import ConfigError
from lightgen.generators.base import Failure
from lightgen.generators.config import GeneratorConfig
from lightgen.generators.drawing import Drawing, ImageFile, Sample, draw, take_over
from lightgen.generators.shares import Part
from lightgen.problems import Problem
from lightgen.seeds import content_id, derive_seed
from lightgen.storage.journal import Journal
from lightgen.storage.pixels import ImageFormat
from lightgen.storage.plans import Stage
from lightgen.storage.reuse import Lender, LentShard, family_of, lenders, row_and_reject_ids
from lightgen.storage.shards import Reject, ShardOutput
from lightgen.storage.version import Version
from lightgen.work import Context, MakeShard, Needs, Work, Worker
from schemas.canonical import canonical_json
from schemas.images import REVISED, SCHEMA
from schemas.ref import ArtifactRef

STAGE = Stage("generate", "images", revision=1)


class GenerateConfig(Config):
    """Which generator draws, how large and how often."""

    generator: GeneratorConfig = Field(description="who draws")
    height_px: int | None = Field(default=None, ge=16, le=4096, description="null: as the student was trained")
    width_px: int | None = Field(default=None, ge=16, le=4096, description="null: as the student was trained")
    size_px: int | None = Field(
        default=None, ge=16, le=4096, description="both sides of a square", json_schema_extra=RUN
    )
    samples_per_prompt: int = Field(default=1, ge=1, description="images of each prompt")
    samples_by_source: dict[str, Annotated[int, Field(ge=1)]] = Field(
        default={}, description="samples of a prompt from that source instead, so that small sources are not drowned"
    )
    part: Part | None = Field(
        default=None,
        description="which prompts it draws, where others draw the rest; null: all. `mix` gives it",
        json_schema_extra=QUIET,
    )
    format: ImageFormat = Field(default="jpg", description="png is exact; jpg and webp lose by `quality`")
    quality: int = Field(default=92, ge=1, le=100, description="of jpg and webp, 100 is best")
    batch: int = Field(default=8, ge=1, description="images drawn at once", json_schema_extra=RUN)
    workers: int = Field(default=2, ge=1, description="threads that encode files meanwhile", json_schema_extra=RUN)
    max_reject_fraction: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="share of rows that may be refused; more end the stage",
        json_schema_extra=RUN,
    )

    @model_validator(mode="after")
    def _one_size(self) -> "GenerateConfig":
        if self.size_px is not None and (self.height_px, self.width_px) != (None, None):
            raise ValueError("give size_px for a square, or height_px and width_px, not both")
        if (self.height_px is None) != (self.width_px is None):
            raise ValueError("give both of height_px and width_px")
        if self.sides is None and not self.generator.draws_with_checkpoint:
            raise ValueError(f"generator {self.generator.kind} has no size of its own: give size_px")
        return self

    @property
    def sides(self) -> tuple[int, int] | None:
        """Height and width in px; None: as the student was trained."""
        if self.size_px is not None:
            return self.size_px, self.size_px
        return None if self.height_px is None or self.width_px is None else (self.height_px, self.width_px)

    def content(self) -> dict[str, Any]:
        """See `Config.content`: a square is named by its sides, however they were given."""
        height, width = self.sides or (None, None)
        return {**super().content(), "height_px": height, "width_px": width}

    def problems(self) -> Iterator[Problem]:
        """See `Config.problems`: sides that the generator cannot draw."""
        what, fix = self.generator.cannot_draw(*self.sides) if self.sides is not None else ("", "")
        if what:
            yield Problem(
                "recipe",
                "height_px" if self.size_px is None else "size_px",
                f"generator {self.generator.kind} {what}",
                fix,
            )

    @property
    def drawn_by(self) -> str:
        """The name of the generator in the rows."""
        return self.generator.kind if self.part is None else self.part.name

    def prompts(self, source: Version, shard: int | None = None) -> pa.Table:
        """Id, caption and source of the prompts that it draws, of one shard or of all."""
        table = source.table(shard, columns=["id", "caption", "source"])
        return table if self.part is None else table.filter(pa.array(self.part.takes(table["id"].to_pylist())))

    def samples(self, source: str) -> int:
        """Samples of each prompt from `source`."""
        return self.samples_by_source.get(source, self.samples_per_prompt)


@dataclass(frozen=True)
class _Naming:
    """What the id of an image depends on, beside its prompt and index."""

    generator: str
    sides: tuple[int, int] | None
    seed: int


def generate(
    prompts: ArtifactRef, config: GenerateConfig, context: Context, checkpoint: ArtifactRef | None = None
) -> ArtifactRef:
    """Images of every prompt; `checkpoint` is that of a generator which draws with one.

    The file of an image is made here once, and never again downstream.
    """
    source = context.store.open(prompts)
    parents = [prompts, *_checkpoints(config, context, checkpoint)]
    check_sources(config, set(source.table(columns=["source"])["source"].unique().to_pylist()))
    counts = config.prompts(source)["source"].value_counts().to_pylist()
    plan = STAGE.plan(config, context.seed, parents, source.n_shards)
    total = sum(config.samples(one["values"]) * one["counts"] for one in counts)
    needs = Needs(gpu=config.generator.wants_gpu, unit="images", total=total)
    family = family_of(STAGE.revision, _generator_name(plan.config, parents), config.format, config.quality)
    return build(Work.of(plan, config, parents, context, f"{__name__}:open", needs, family), context)


def open(work: Work, worker: Worker) -> MakeShard:
    """Finds who lends images, and loads the generator when one must be drawn; see `lightgen.work`."""
    config = GenerateConfig.model_validate(work.config)
    source = worker.store.open(work.parents[0])
    naming = _Naming(_generator_name(work.plan.config, work.parents), config.sides, work.plan.seed)
    known = [Lender(one, row_and_reject_ids) for one in lenders(worker.store, work.plan, work.family)]
    drawing = Drawing(
        lambda: config.generator.open(work, worker), config.sides, config.format, config.quality, config.batch,
        config.workers, config.generator.journals,
    )  # fmt: skip

    def make_shard(shard: int) -> ShardOutput | LentShard:
        samples = samples_of(config.prompts(source, shard).to_pylist(), naming, config)
        lent = take_over(known, shard, [sample.id for sample in samples])
        if isinstance(lent, LentShard):
            worker.progress.advance(len(samples))
            return lent
        worker.progress.advance(len(lent))
        fresh = [sample for sample in samples if sample.id not in lent]
        journal = Journal(worker.store.files, work.plan, shard)
        files = {**lent, **draw(fresh, drawing, journal, worker.progress)}
        return _shard(samples, files, naming.generator, config, len(lent))

    return make_shard


def _generator_name(settings: Any, parents: Iterable[ArtifactRef]) -> str:
    """A digest of the generator and of the checkpoint it draws with."""
    return content_id(settings["generator"], *(one.content for one in parents if one.kind == "checkpoint"))


def _checkpoints(config: GenerateConfig, context: Context, given: ArtifactRef | None) -> list[ArtifactRef]:
    if not config.generator.draws_with_checkpoint:
        return []
    named = getattr(config.generator, "checkpoint", "checkpoint@latest")
    return [given or context.store.open(named).ref]


def check_sources(config: GenerateConfig, sources: set[str]) -> None:
    """Raises ConfigError where `samples_by_source` names a source that no prompt comes from."""
    unknown = sorted(set(config.samples_by_source) - sources)
    if unknown:
        raise ConfigError(
            f"generate.samples_by_source names {', '.join(unknown)}; the prompts come from {', '.join(sorted(sources))}"
        )


def samples_of(prompts: Iterable[dict[str, Any]], naming: _Naming, config: GenerateConfig) -> list[Sample]:
    """The samples of each prompt, in order; neither id nor seed depends on what stands beside it.

    Seeds do not depend on the generator, so that generators can be compared on the same noise.
    """
    samples = []
    for prompt in prompts:
        for index in range(config.samples(prompt["source"])):
            seed = derive_seed(naming.seed, "generate", prompt["id"], index)
            id = content_id(naming.generator, prompt["id"], index, seed, naming.sides)
            samples.append(Sample(id, prompt["id"], prompt["caption"], index, seed))
    return samples


def _shard(
    samples: list[Sample], files: dict[str, ImageFile | Failure], name: str, config: GenerateConfig, reused: int
) -> ShardOutput:
    rows, blobs, rejects = [], [], []
    for sample in samples:
        file = files[sample.id]
        if isinstance(file, Failure):
            rejects.append(Reject(sample.id, file.reason, file.detail, vars(sample)))
            continue
        facts = {"generator": config.drawn_by, "width": file.width, "height": file.height}
        if config.generator.revises:
            facts["revised"] = file.revised
        row = {**vars(sample), **facts, "format": config.format, "image_sha256": file.sha256}
        rows.append(row)
        blobs.append({config.format: file.data, "json": canonical_json({**row, "generator_digest": name})})
    schema = REVISED if config.generator.revises else SCHEMA
    table = pa.Table.from_pylist(rows, schema=schema)
    return ShardOutput(
        table=table, schema=schema, rejects=rejects, rows_in=len(samples), blobs=blobs, rows_reused=reused
    )
