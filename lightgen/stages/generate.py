"""PROMPTS -> IMAGES: a teacher paints every prompt, each sample from a seed of its own."""

import hashlib
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from lightgen.errors import ConfigError
from lightgen.generators.base import Teacher, TeacherFailure
from lightgen.generators.config import TeacherConfig, make_teacher, teacher_content, teacher_modules
from lightgen.progress import SILENT, Progress
from lightgen.seeds import content_id, derive_seed
from lightgen.storage import pixels
from lightgen.storage.build import Reject, ShardOutput, build, finished, make_plan, rows_done
from lightgen.storage.pixels import ImageFormat, encode_image
from lightgen.storage.store import Store
from schemas.canonical import canonical_json
from schemas.images import SCHEMA
from schemas.ref import ArtifactRef

# An image whose pixels all lie this near to its first is blank: safety filters and overflows leave such.
FLAT_LEVELS = 2


class GenerateConfig(BaseModel):
    """Which teacher paints, how large and how often."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    teacher: TeacherConfig
    size_px: int = Field(default=512, ge=16, le=4096, description="side of the square image")
    samples_per_prompt: int = Field(default=1, ge=1)
    samples_by_source: dict[str, Annotated[int, Field(ge=1)]] = Field(
        default={}, description="samples of a prompt from that source instead, so that small sources are not drowned"
    )
    format: ImageFormat = Field(default="jpg", description="png is exact; jpg and webp lose by `quality`")
    quality: int = Field(default=92, ge=1, le=100)
    batch: int = Field(default=8, ge=1, description="images the teacher paints at once")
    workers: int = Field(default=2, ge=1, description="threads that encode files while the teacher paints")
    max_reject_fraction: float = Field(default=0.05, ge=0, le=1)

    def samples(self, source: str) -> int:
        """Samples of each prompt from `source`."""
        return self.samples_by_source.get(source, self.samples_per_prompt)

    def content(self) -> "GenerateConfig":
        """Without what changes only the speed, or whether the result is accepted."""
        neutral = {"batch": 1, "workers": 1, "max_reject_fraction": 0.05}
        return self.model_copy(update={**neutral, "teacher": teacher_content(self.teacher)})


@dataclass(frozen=True)
class Sample:
    """One image to be painted."""

    id: str
    prompt_id: str
    caption: str
    sample: int
    seed: int


def generate(
    prompts: ArtifactRef, config: GenerateConfig, store: Store, *, seed: int, progress: Progress = SILENT
) -> ArtifactRef:
    """Images of every prompt; the file of an image is made here once, and never again downstream."""
    source, teacher = store.open(prompts), make_teacher(config.teacher)
    identity = teacher.identity()
    modules = [__name__, pixels, *teacher_modules(config.teacher)]
    plan = make_plan(
        "images", "generate", modules, config.content(), seed, [prompts], source.n_shards, models=[identity]
    )
    if done := finished(store, plan):
        return done
    sources = source.table(columns=["source"])["source"].to_pylist()
    _check_sources(config, set(sources))
    progress.start("generate", sum(map(config.samples, sources)), "images", rows_done(store, plan))

    def make_shard(shard: int) -> ShardOutput:
        rows = source.table(shard, columns=["id", "caption", "source"]).to_pylist()
        return paint(samples_of(rows, identity, config, seed), teacher, identity, config, progress)

    ref = build(store, plan, make_shard, SCHEMA, max_reject_fraction=config.max_reject_fraction)
    progress.finish()
    return ref


def _check_sources(config: GenerateConfig, sources: set[str]) -> None:
    unknown = sorted(set(config.samples_by_source) - sources)
    if unknown:
        raise ConfigError(
            f"generate.samples_by_source names {', '.join(unknown)}; the prompts come from {', '.join(sorted(sources))}"
        )


def samples_of(
    prompts: Iterable[dict[str, Any]], identity: dict[str, Any], config: GenerateConfig, seed: int
) -> list[Sample]:
    """The samples of each prompt, in order; neither id nor seed depends on what stands beside it."""
    samples = []
    for prompt in prompts:
        for index in range(config.samples(prompt["source"])):
            own_seed = derive_seed(seed, "generate", prompt["id"], index)
            id = content_id(identity, prompt["id"], index, own_seed, config.size_px)
            samples.append(Sample(id, prompt["id"], prompt["caption"], index, own_seed))
    return samples


def paint(
    samples: Sequence[Sample],
    teacher: Teacher,
    identity: dict[str, Any],
    config: GenerateConfig,
    progress: Progress = SILENT,
) -> ShardOutput:
    """The shard with all samples: batch after batch, while threads encode the batches before."""
    encoding: list[Future[list[bytes | TeacherFailure]]] = []
    with ThreadPoolExecutor(config.workers) as pool:
        for start in range(0, len(samples), config.batch):
            batch = samples[start : start + config.batch]
            images = teacher.generate([one.caption for one in batch], [one.seed for one in batch], config.size_px)
            assert len(images) == len(batch), f"teacher gave {len(images)} images for {len(batch)} captions"
            encoding.append(pool.submit(_encode_batch, images, config))
            progress.advance(len(batch))
    files = [file for batch in encoding for file in batch.result()]
    return _shard(samples, files, _teacher_note(identity), config)


def _encode_batch(
    images: Sequence[np.ndarray | TeacherFailure], config: GenerateConfig
) -> list[bytes | TeacherFailure]:
    checked = [image if isinstance(image, TeacherFailure) else _checked(image, config.size_px) for image in images]
    return [
        image if isinstance(image, TeacherFailure) else encode_image(image, config.format, config.quality)
        for image in checked
    ]


def _checked(image: np.ndarray, size_px: int) -> np.ndarray | TeacherFailure:
    assert image.shape == (size_px, size_px, 3), f"teacher gave {image.shape}"
    assert image.dtype == np.uint8, f"teacher gave {image.dtype}"
    corner = image[0, 0]
    # Bytes wrap around, so one comparison sees differences of both signs.
    if (image - corner + np.uint8(FLAT_LEVELS) > 2 * FLAT_LEVELS).any():
        return image
    return TeacherFailure("blank_image", f"one colour all over, {corner.tolist()}")


def _teacher_note(identity: dict[str, Any]) -> dict[str, Any]:
    """Which teacher painted, short enough to stand beside every image; the plan of the version has the whole."""
    return {"kind": identity.get("kind"), "model": identity.get("model"), "digest": content_id(identity)}


def _shard(
    samples: Sequence[Sample],
    files: Sequence[bytes | TeacherFailure],
    note: dict[str, Any],
    config: GenerateConfig,
) -> ShardOutput:
    rows, blobs, rejects = [], [], []
    for sample, file in zip(samples, files, strict=True):
        if isinstance(file, TeacherFailure):
            rejects.append(Reject(sample.id, file.reason, file.detail, vars(sample)))
            continue
        size = {"width": config.size_px, "height": config.size_px}
        row = {**vars(sample), **size, "format": config.format, "image_sha256": hashlib.sha256(file).hexdigest()}
        rows.append(row)
        blobs.append({config.format: file, "json": canonical_json({**row, "teacher": note})})
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    return ShardOutput(table=table, rejects=rejects, rows_in=len(samples), blobs=blobs)
