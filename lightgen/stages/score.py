"""IMAGES -> SCORES: a scorer looks at every image; its raw answers are kept, and no threshold is asked here.

A map. Memory: the pixels of one batch and the answers of one shard.
"""

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import pyarrow as pa
from pydantic import Field

from lightgen.config import RUN, Config
from lightgen.engines.build import build
from lightgen.scorers.base import Scorer, Unscored, answer_table
from lightgen.scorers.config import ScorerConfig
from lightgen.storage.pixels import BadImage, Pixels, decode_image
from lightgen.storage.plans import Stage
from lightgen.storage.shards import ShardOutput
from lightgen.storage.version import Version
from lightgen.work import Context, MakeShard, Needs, Work, Worker
from schemas.ref import ArtifactRef
from schemas.scores import ROW, schema

Item = TypeVar("Item")
STAGE = Stage("score", "scores", revision=1)


class ScoreConfig(Config):
    """Who looks at the images."""

    scorer: ScorerConfig
    workers: int = Field(default=2, ge=1, description="threads that decode", json_schema_extra=RUN)


def score(images: ArtifactRef, config: ScoreConfig, context: Context) -> ArtifactRef:
    """The scores of every image; shard i holds those of image shard i."""
    source = context.store.open(images)
    plan = STAGE.plan(config, context.seed, [images], source.n_shards)
    needs = Needs(gpu=config.scorer.wants_gpu, unit="images", total=source.rows)
    return build(Work.of(plan, config, [images], context, f"{__name__}:open", needs), context)


def open(work: Work, worker: Worker) -> MakeShard:
    """Loads the scorer; see `lightgen.work`."""
    config = ScoreConfig.model_validate(work.config)
    source, scorer = worker.store.open(work.parents[0]), config.scorer.open(worker)
    columns = [field.name for field in ROW]
    whole = schema(config.scorer.ANSWERS)

    def make_shard(shard: int) -> ShardOutput:
        rows = source.table(shard, columns=columns)
        parts = []
        for batch, pixels in _batches(source, shard, rows, config):
            parts.append(score_batch(batch, pixels, scorer, config.scorer.ANSWERS))
            worker.progress.advance(batch.num_rows)
        table = pa.concat_tables(parts) if parts else whole.empty_table()
        return ShardOutput(table=table.combine_chunks(), schema=whole, rows_in=rows.num_rows)

    return make_shard


def score_batch(rows: pa.Table, pixels: list[Pixels | BadImage], scorer: Scorer, answers: pa.Schema) -> pa.Table:
    """Rows of a batch with the scorer's answers; an image that cannot be read is not asked about."""
    captions = rows["caption"].to_pylist()
    good = [place for place, image in enumerate(pixels) if not isinstance(image, BadImage)]
    wrong = [place for place, image in enumerate(pixels) if isinstance(image, BadImage)]
    asked = [image for image in pixels if not isinstance(image, BadImage)]
    answered = scorer.score(asked, [captions[place] for place in good]) if asked else answer_table(answers, [])
    refused = [Unscored(one.reason, one.detail) for one in pixels if isinstance(one, BadImage)]
    both = pa.concat_tables([answered, answer_table(answers, refused)])
    found = both.take(np.argsort([*good, *wrong]))
    return pa.Table.from_arrays([*rows.columns, *found.columns], schema=schema(answers))


def _batches(
    source: Version, shard: int, rows: pa.Table, config: ScoreConfig
) -> Iterator[tuple[pa.Table, list[Pixels | BadImage]]]:
    """Rows with their pixels, a batch of the scorer's at a time; the next batch is decoded meanwhile."""
    files = (
        next(data for extension, data in members.items() if extension != "json") for _, members in source.samples(shard)
    )
    size = config.scorer.batch
    with ThreadPoolExecutor(config.workers) as pool:
        starts = range(0, rows.num_rows, size)
        decoding = (
            (rows.slice(start, size), pool.map(decode_image, list(itertools.islice(files, size)))) for start in starts
        )
        for batch, pixels in _one_ahead(decoding):
            yield batch, list(pixels)


def _one_ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The items, each asked for while the one before is used."""
    current = next(items, None)
    while current is not None:
        following = next(items, None)
        yield current
        current = following
