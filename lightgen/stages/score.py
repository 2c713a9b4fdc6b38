"""IMAGES -> SCORES: a scorer looks at every image; its raw answers are kept, and no threshold is asked here.

With PROMPTS that were written for images, each of those is scored against its new caption, and no other image is. A
map. Memory: the pixels of one batch and the answers of one shard.
"""

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import Field

from lightgen.ahead import one_ahead
from lightgen.config import RUN, Config
from lightgen.engines.build import build
from lightgen.errors import ConfigError, LightgenError, SchemaMismatch
from lightgen.http import unsettled
from lightgen.progress import Progress
from lightgen.scorers.base import Scorer, Unscored, answer_table
from lightgen.scorers.config import ScorerConfig
from lightgen.storage.journal import Journal
from lightgen.storage.pixels import BadImage, Pixels, decode_image
from lightgen.storage.plans import Stage
from lightgen.storage.reuse import Lender, LentShard, family_of, image_keys, lenders, taken
from lightgen.storage.shards import ShardOutput
from lightgen.storage.version import Version
from lightgen.work import Context, MakeShard, Needs, Work, Worker
from schemas.ref import ArtifactRef
from schemas.scores import ROW, schema

Answers = dict[str, dict[str, Any]]  # by key of the image
COLUMNS = [field.name for field in ROW]
STAGE = Stage("score", "scores", revision=1)


class ScoreConfig(Config):
    """Who looks at the images."""

    scorer: ScorerConfig
    workers: int = Field(default=2, ge=1, description="threads that decode", json_schema_extra=RUN)


def score(
    images: ArtifactRef, config: ScoreConfig, context: Context, prompts: ArtifactRef | None = None
) -> ArtifactRef:
    """The scores of every image; shard i holds those of image shard i. Raises TryLater, ServiceRefused, SpendLimit.

    With `prompts` of the same layout: of every image that one of them was written for, with its caption.
    """
    source = context.store.open(images)
    parents = [images] if prompts is None else [images, prompts]
    if prompts is not None and (other := context.store.open(prompts)).n_shards != source.n_shards:
        raise ConfigError(
            f"score: {images} has {source.n_shards} shards and {prompts} {other.n_shards}: the prompts were not "
            "written for these images"
        )
    plan = STAGE.plan(config, context.seed, parents, source.n_shards)
    needs = Needs(gpu=config.scorer.wants_gpu, unit="images", total=parents[-1].rows)
    family = family_of(STAGE.revision, plan.config)
    return build(Work.of(plan, config, parents, context, f"{__name__}:open", needs, family), context)


def open(work: Work, worker: Worker) -> MakeShard:
    """Finds who lends scores, and loads the scorer when an image must be looked at; see `lightgen.work`."""
    config = ScoreConfig.model_validate(work.config)
    source, *prompts = (worker.store.open(ref) for ref in work.parents)
    known = [Lender(one, _keys) for one in lenders(worker.store, work.plan, work.family)]
    whole = schema(config.scorer.ANSWERS)
    scorer = cache(lambda: config.scorer.open(worker))

    def make_shard(shard: int) -> ShardOutput | LentShard:
        rows = source.table(shard, columns=COLUMNS)
        rows = with_captions(rows, prompts[0].table(shard)) if prompts else rows
        lent = _lent(known, shard, rows, whole)
        if isinstance(lent, LentShard):
            worker.progress.advance(rows.num_rows)
            return lent
        worker.progress.advance(len(lent))
        fresh = np.array([key not in lent for key in image_keys(rows)], bool)
        journal = Journal(worker.store.files, work.plan, shard) if config.scorer.journals else None
        answers = _answers(source, shard, rows.filter(pa.array(fresh)), scorer, config, journal, worker.progress)
        table = _joined(rows, {**lent, **answers}, whole)
        return ShardOutput(table=table, schema=whole, rows_in=rows.num_rows, rows_reused=int((~fresh).sum()))

    return make_shard


def with_captions(rows: pa.Table, prompts: pa.Table) -> pa.Table:
    """Rows of the images that a prompt was written for, with its id and caption. Raises SchemaMismatch."""
    if prompts["image_id"].null_count:
        raise SchemaMismatch("score: prompts that were written for no image; take those of stage recaption")
    by_image = {row["image_id"]: row for row in prompts.select(["image_id", "id", "caption"]).to_pylist()}
    if len(by_image) != prompts.num_rows or not set(by_image) <= set(rows["id"].to_pylist()):
        raise SchemaMismatch("score: prompts of other images, or two prompts of one")
    wanted = rows.filter(pa.array([id in by_image for id in rows["id"].to_pylist()], pa.bool_()))
    written = [by_image[id] for id in wanted["id"].to_pylist()]
    columns = {"prompt_id": "id", "caption": "caption"}
    for name, field in columns.items():
        place = wanted.schema.get_field_index(name)
        values = pa.array([row[field] for row in written], pa.string())
        wanted = wanted.set_column(place, wanted.schema.field(place), values)
    return wanted.combine_chunks()


def _keys(version: Version, shard: int) -> list[str]:
    return image_keys(version.table(shard, columns=["image_sha256", "caption"]))


def _lent(known: list[Lender], shard: int, rows: pa.Table, whole: pa.Schema) -> LentShard | Answers:
    """What other versions hold of these images: a whole shard, or answers by key."""
    for lender in known:
        version = lender.version
        if shard < version.n_shards and version.table(shard, columns=COLUMNS).equals(rows):
            return LentShard(version, shard)
    found: Answers = {}
    for lender, where, keys in taken(known, shard, image_keys(rows)):
        table = lender.version.table(where)
        found |= _by_key(table, set(keys), whole)
    return found


def _by_key(table: pa.Table, wanted: set[str], whole: pa.Schema) -> Answers:
    """Answers of the rows of a table of scores, by key of their image."""
    names = [name for name in whole.names if name not in COLUMNS]
    answers = table.select(names).to_pylist()
    return {key: row for key, row in zip(image_keys(table), answers, strict=True) if key in wanted}


def _joined(rows: pa.Table, answers: Answers, whole: pa.Schema) -> pa.Table:
    """Rows of images with the answers about them."""
    found = [answers[key] for key in image_keys(rows)]
    names = [name for name in whole.names if name not in COLUMNS]
    columns = [pa.array([row[name] for row in found], whole.field(name).type) for name in names]
    return pa.Table.from_arrays([*(rows[name] for name in COLUMNS), *columns], schema=whole)


def _answers(
    source: Version, shard: int, rows: pa.Table, scorer: Callable[[], Scorer], config: ScoreConfig,
    journal: Journal | None, progress: Progress,
) -> Answers:  # fmt: skip
    """What the scorer says of images, by key; batches of a slow scorer are kept until the version is sealed."""
    whole, wanted = schema(config.scorer.ANSWERS), set(image_keys(rows))
    found: Answers = {}
    for table in journal.read() if journal else []:
        found |= _by_key(table, wanted, whole)
    progress.advance(len(found))
    left = rows.filter(pa.array([key not in found for key in image_keys(rows)], pa.bool_()))
    for batch, pixels in _batches(source, shard, left, config):
        scored, error = settled(score_batch(batch, pixels, scorer(), config.scorer.ANSWERS))
        if journal:
            journal.add(scored)
        if error is not None:
            raise error
        found |= _by_key(scored, wanted, whole)
        progress.advance(batch.num_rows)
    return found


def settled(scored: pa.Table) -> tuple[pa.Table, LightgenError | None]:
    """The rows that have an answer, or a lasting reason for having none; and the error of the others."""
    whys = zip(scored["unscored"].to_pylist(), scored["unscored_detail"].to_pylist(), strict=True)
    errors = [unsettled(reason, detail) for reason, detail in whys]
    kept = scored.filter(pa.array([error is None for error in errors], pa.bool_()))
    return kept, next((error for error in errors if error is not None), None)


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
    wanted = rows["id"].to_pylist()
    members = source.members_of(shard, wanted)
    files = (next(data for name, data in members[id].items() if name != "json") for id in wanted)
    size = config.scorer.batch
    with ThreadPoolExecutor(config.workers) as pool:
        starts = range(0, rows.num_rows, size)
        decoding = (
            (rows.slice(start, size), pool.map(decode_image, list(itertools.islice(files, size)))) for start in starts
        )
        for batch, pixels in one_ahead(decoding):
            yield batch, list(pixels)
