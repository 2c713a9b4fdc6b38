"""IMAGES -> KEPT: scores every image and keeps the good ones once, whatever the shards.

Scores of a shard are kept in the scratch folder, under a name that holds no threshold: a run that was killed, or one
with other thresholds, does not decode the images again.
"""

import functools
import logging
import os
import uuid
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, Field

from lightgen.decisions import image_scores, image_verdicts, perceptual
from lightgen.decisions.image_scores import SCORES, score
from lightgen.decisions.image_verdicts import Thresholds, Verdicts, judge, split
from lightgen.progress import SILENT, Progress
from lightgen.storage import pixels
from lightgen.storage.build import Reject, ShardOutput, build, finished, make_plan
from lightgen.storage.store import Store
from lightgen.storage.version import Version
from schemas.kept import SCHEMA
from schemas.ref import ArtifactRef

log = logging.getLogger(__name__)

MODULES = [__name__, image_scores, image_verdicts, perceptual, pixels]


class DedupConfig(Thresholds):
    """Thresholds; the scores they judge are stored with every row, kept or not."""

    workers: int = Field(default=2, ge=1, description="threads that decode")
    max_reject_fraction: float = Field(default=0.5, ge=0, le=1)

    def content(self) -> Thresholds:
        """What decides the result: neither how fast it is found, nor whether it is accepted."""
        return Thresholds(**self.model_dump(include=set(Thresholds.model_fields)))


class _NoSettings(BaseModel):
    """What scores depend on."""


def dedup(
    images: ArtifactRef, config: DedupConfig, store: Store, *, seed: int, progress: Progress = SILENT
) -> ArtifactRef:
    """The survivors of image shard i are shard i of the result; among repeats the smallest id survives."""
    source = store.open(images)
    plan = make_plan("kept", "dedup", MODULES, config.content(), seed, [images], source.n_shards)
    if done := finished(store, plan):
        return done
    scratch = open_scratch(store, images)
    progress.start("dedup", source.rows, "images")

    @functools.cache
    def judged() -> list[tuple[pa.Table, Verdicts]]:
        shards = [scores_of(source, shard, scratch, config.workers, progress) for shard in range(source.n_shards)]
        return list(zip(shards, split(judge(pa.concat_tables(shards), config), shards), strict=True))

    def make_shard(shard: int) -> ShardOutput:
        return shard_output(*judged()[shard])

    ref = build(store, plan, make_shard, SCHEMA, max_reject_fraction=config.max_reject_fraction)
    progress.finish()
    return ref


def open_scratch(store: Store, images: ArtifactRef) -> Path:
    """Where the scores of these images wait; the name does not depend on the thresholds."""
    return store.scratch(make_plan("kept", "score", MODULES, _NoSettings(), 0, [images], store.open(images).n_shards))


def scores_of(source: Version, shard: int, scratch: Path, workers: int, progress: Progress) -> pa.Table:
    """Scores of one shard, from an earlier attempt where they are whole."""
    path, columns = scratch / f"scores-{shard:05d}.parquet", ["id", "prompt_id", "caption", "image_sha256"]
    rows = source.table(shard, columns=columns)
    try:
        found = pq.read_table(path, page_checksum_verification=True)
        if found.schema.equals(SCORES) and found.select(columns).equals(rows):
            progress.advance(rows.num_rows)
            return found
    except (OSError, pa.ArrowInvalid) as error:
        log.debug("no scores in %s: %s", path, error)
    files = (
        next(data for extension, data in members.items() if extension != "json") for _, members in source.samples(shard)
    )
    scores = score(rows, files, workers, progress)
    temporary = path.with_suffix(f".{uuid.uuid4().hex}.tmp")
    pq.write_table(scores, temporary, write_page_checksum=True)
    os.replace(temporary, path)
    return scores


def shard_output(scores: pa.Table, verdicts: Verdicts) -> ShardOutput:
    """Rows that pass, and rejects with their scores."""
    rows: list[dict[str, Any]] = scores.drop_columns(["bad", "detail"]).to_pylist()
    for row, distance, neighbour in zip(rows, verdicts.distance.tolist(), verdicts.neighbour, strict=True):
        row.update(nearest_distance=distance, nearest_id=neighbour)
    kept = [
        {name: row[name] for name in SCHEMA.names}
        for row, reason in zip(rows, verdicts.reason, strict=True)
        if not reason
    ]
    rejects = [
        Reject(row["id"], reason, detail, row)
        for row, reason, detail in zip(rows, verdicts.reason, verdicts.detail, strict=True)
        if reason
    ]
    return ShardOutput(table=pa.Table.from_pylist(kept, schema=SCHEMA), rejects=rejects, rows_in=len(rows))
