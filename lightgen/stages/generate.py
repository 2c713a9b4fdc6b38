"""PROMPTS -> IMAGES: a generator draws every prompt, each image from a seed of its own.

A map: a shard of prompts gives a shard of images. Memory: the encoded files of one shard.
"""

import hashlib
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from lightgen.config import RUN, Config
from lightgen.engines.build import build
from lightgen.errors import ConfigError, TryLater
from lightgen.generators.base import Drawn, Failure, Generator, Retry
from lightgen.generators.config import GeneratorConfig
from lightgen.progress import SILENT, Progress
from lightgen.seeds import content_id, derive_seed
from lightgen.storage.pixels import ImageFormat, encode_image
from lightgen.storage.plans import Stage
from lightgen.storage.shards import Reject, ShardOutput
from lightgen.work import Context, MakeShard, Needs, Work, Worker
from schemas.canonical import canonical_json
from schemas.images import SCHEMA
from schemas.ref import ArtifactRef

STAGE = Stage("generate", "images", revision=1)


class GenerateConfig(Config):
    """Which generator draws, how large and how often."""

    generator: GeneratorConfig
    height_px: int | None = Field(default=None, ge=16, le=4096, description="null: as the student was trained")
    width_px: int | None = Field(default=None, ge=16, le=4096)
    size_px: int | None = Field(
        default=None, ge=16, le=4096, description="both sides of a square", json_schema_extra=RUN
    )
    samples_per_prompt: int = Field(default=1, ge=1)
    samples_by_source: dict[str, Annotated[int, Field(ge=1)]] = Field(
        default={}, description="samples of a prompt from that source instead, so that small sources are not drowned"
    )
    format: ImageFormat = Field(default="jpg", description="png is exact; jpg and webp lose by `quality`")
    quality: int = Field(default=92, ge=1, le=100)
    batch: int = Field(default=8, ge=1, description="images drawn at once", json_schema_extra=RUN)
    workers: int = Field(default=2, ge=1, description="threads that encode files meanwhile", json_schema_extra=RUN)
    max_reject_fraction: float = Field(default=0.05, ge=0, le=1, json_schema_extra=RUN)

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

    def samples(self, source: str) -> int:
        """Samples of each prompt from `source`."""
        return self.samples_by_source.get(source, self.samples_per_prompt)


@dataclass(frozen=True)
class Sample:
    """One image to be drawn."""

    id: str
    prompt_id: str
    caption: str
    index: int
    seed: int


def generate(
    prompts: ArtifactRef, config: GenerateConfig, context: Context, checkpoint: ArtifactRef | None = None
) -> ArtifactRef:
    """Images of every prompt; `checkpoint` is that of a generator which draws with one.

    The file of an image is made here once, and never again downstream.
    """
    source = context.store.open(prompts)
    parents = [prompts, *_checkpoints(config, context, checkpoint)]
    counts = source.table(columns=["source"])["source"].value_counts().to_pylist()
    check_sources(config, {one["values"] for one in counts})
    plan = STAGE.plan(config, context.seed, parents, source.n_shards)
    total = sum(config.samples(one["values"]) * one["counts"] for one in counts)
    needs = Needs(gpu=config.generator.wants_gpu, unit="images", total=total)
    return build(Work.of(plan, config, parents, context, f"{__name__}:open", needs), context)


def open(work: Work, worker: Worker) -> MakeShard:
    """Loads the generator; see `lightgen.work`."""
    config = GenerateConfig.model_validate(work.config)
    source = worker.store.open(work.parents[0])
    generator = config.generator.open(work, worker)
    name = content_id(work.plan.config["generator"], *(parent.content for parent in work.parents[1:]))

    def make_shard(shard: int) -> ShardOutput:
        rows = source.table(shard, columns=["id", "caption", "source"]).to_pylist()
        return draw(samples_of(rows, name, config, work.plan.seed), generator, name, config, worker.progress)

    return make_shard


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


def samples_of(prompts: Iterable[dict[str, Any]], generator: str, config: GenerateConfig, seed: int) -> list[Sample]:
    """The samples of each prompt, in order; neither id nor seed depends on what stands beside it.

    Seeds do not depend on the generator, so that generators can be compared on the same noise.
    """
    samples = []
    for prompt in prompts:
        for index in range(config.samples(prompt["source"])):
            own_seed = derive_seed(seed, "generate", prompt["id"], index)
            id = content_id(generator, prompt["id"], index, own_seed, config.sides)
            samples.append(Sample(id, prompt["id"], prompt["caption"], index, own_seed))
    return samples


def draw(
    samples: Sequence[Sample], generator: Generator, name: str, config: GenerateConfig, progress: Progress = SILENT
) -> ShardOutput:
    """The shard with all samples: batch after batch, while threads encode the batches before.

    Raises TryLater where an image could not be drawn now.
    """
    height, width = config.sides or (0, 0)
    encoding: list[Future[list[Encoded | Failure]]] = []
    with ThreadPoolExecutor(config.workers) as pool:
        for start in range(0, len(samples), config.batch):
            batch = samples[start : start + config.batch]
            images = generator.generate([one.caption for one in batch], [one.seed for one in batch], height, width)
            assert len(images) == len(batch), f"the generator gave {len(images)} images for {len(batch)} captions"
            encoding.append(pool.submit(_encode_batch, _none_to_retry(images), config))
            progress.advance(len(batch))
    files = [file for batch in encoding for file in batch.result()]
    return _shard(samples, files, name, config)


@dataclass(frozen=True)
class Encoded:
    """The file of an image."""

    data: bytes
    sha256: str
    height: int
    width: int


def _none_to_retry(images: Sequence[Drawn]) -> list[np.ndarray | Failure]:
    later = [image for image in images if isinstance(image, Retry)]
    if later:
        raise TryLater(f"{len(later)} of {len(images)} images: {later[0].reason}: {later[0].detail}")
    return [image for image in images if not isinstance(image, Retry)]


def _encode_batch(images: Sequence[np.ndarray | Failure], config: GenerateConfig) -> list[Encoded | Failure]:
    return [image if isinstance(image, Failure) else _encoded(image, config) for image in images]


def _encoded(image: np.ndarray, config: GenerateConfig) -> Encoded:
    assert image.shape == (*(config.sides or image.shape[:2]), 3), f"the generator gave {image.shape}"
    assert image.dtype == np.uint8, f"the generator gave {image.dtype}"
    data = encode_image(image, config.format, config.quality)
    return Encoded(data, hashlib.sha256(data).hexdigest(), image.shape[0], image.shape[1])


def _shard(
    samples: Sequence[Sample], files: Sequence[Encoded | Failure], name: str, config: GenerateConfig
) -> ShardOutput:
    rows, blobs, rejects = [], [], []
    for sample, file in zip(samples, files, strict=True):
        if isinstance(file, Failure):
            rejects.append(Reject(sample.id, file.reason, file.detail, vars(sample)))
            continue
        facts = {"generator": config.generator.kind, "width": file.width, "height": file.height}
        row = {**vars(sample), **facts, "format": config.format, "image_sha256": file.sha256}
        rows.append(row)
        blobs.append({config.format: file.data, "json": canonical_json({**row, "generator_digest": name})})
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    return ShardOutput(table=table, schema=SCHEMA, rejects=rejects, rows_in=len(samples), blobs=blobs)
