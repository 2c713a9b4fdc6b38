"""IMAGES -> KEPT: scores every image and keeps the good ones once, whatever the shards.

Scores of a shard are kept in the scratch folder, under a name that holds no threshold: a run that was killed, or one
with other thresholds, does not decode the images again.
"""

import functools
import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field

from lightgen.diversity import perceptual
from lightgen.diversity.perceptual import NO_OTHER, contrast, luma, nearest, phash, repeated, shrink
from lightgen.progress import SILENT, Progress
from lightgen.storage import pixels
from lightgen.storage.build import Reject, ShardOutput, build, make_plan
from lightgen.storage.pixels import BadImage, decode_image
from lightgen.storage.store import Store
from lightgen.storage.version import Version
from schemas.kept import SCHEMA
from schemas.ref import ArtifactRef

log = logging.getLogger(__name__)

SCORES = pa.schema(
    [
        *(pa.field(name, pa.string(), nullable=False) for name in ("id", "prompt_id", "caption", "image_sha256")),
        *(pa.field(name, pa.int32(), nullable=False, metadata={"unit": "px"}) for name in ("width", "height")),
        pa.field("phash", pa.uint64(), nullable=False),
        pa.field("contrast", pa.float32(), nullable=False),
        *(pa.field(name, pa.string(), nullable=False, metadata={"is": "empty if good"}) for name in ("bad", "detail")),
    ]
)
MODULES = [__name__, perceptual, pixels]
CHUNK = 64


class DedupConfig(BaseModel):
    """Thresholds; the scores they judge are stored with every row, kept or not."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_size_px: int = Field(32, ge=1, description="the shorter side")
    min_contrast: float = Field(0.01, ge=0, le=0.5, description="standard deviation of the liveliest channel, 0 to 0.5")
    exact: bool = Field(True, description="one of the images with the same bytes is kept, whatever their captions")
    max_hamming_distance: int = Field(4, ge=-1, le=64, description="bits in which a repeat may differ; -1 is off")
    same_caption_only: bool = Field(
        True, description="perceptual repeats count among images of one caption; the hash sees no colour"
    )
    workers: int = Field(2, ge=1, description="threads that decode")
    max_reject_fraction: float = Field(0.5, ge=0, le=1)

    def content(self) -> "DedupConfig":
        """Without what changes only the speed, or whether the result is accepted."""
        return self.model_copy(update={"workers": 1, "max_reject_fraction": 0.5})


class _Scoring(BaseModel):
    """What scores depend on: no setting at all."""


@dataclass(frozen=True)
class Verdicts:
    """For each row of a table of scores: its neighbour, and why it is refused ("" if kept)."""

    distance: np.ndarray
    neighbour: list[str]
    reason: list[str]
    detail: list[str]


def dedup(
    images: ArtifactRef, config: DedupConfig, store: Store, *, seed: int, progress: Progress = SILENT
) -> ArtifactRef:
    """The survivors of image shard i are shard i of the result; among repeats the smallest id survives."""
    source = store.open(images)
    plan = make_plan("kept", "dedup", MODULES, config.content(), seed, [images], source.n_shards)
    done = store.find_sealed(plan)
    if done:
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
    return store.scratch(make_plan("kept", "score", MODULES, _Scoring(), 0, [images], store.open(images).n_shards))


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
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    pq.write_table(scores, temporary, write_page_checksum=True)
    os.replace(temporary, path)
    return scores


def score(rows: pa.Table, files: Iterator[bytes], workers: int, progress: Progress = SILENT) -> pa.Table:
    """`rows` (id, prompt_id, caption, image_sha256) with the scores of their files; a chunk in memory at a time."""
    looks: list[tuple[BadImage | None, tuple[int, int], float, np.ndarray]] = []
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, rows.num_rows, CHUNK):
            chunk = [next(files) for _ in range(min(CHUNK, rows.num_rows - start))]
            looks += pool.map(_look, chunk)
            progress.advance(len(chunk))
    bad, sizes, contrasts, thumbnails = zip(*looks, strict=True) if looks else ((), (), (), ())
    columns = {
        "width": [width for width, _ in sizes],
        "height": [height for _, height in sizes],
        "phash": phash(thumbnails),
        "contrast": contrasts,
        "bad": [one.reason if one else "" for one in bad],
        "detail": [one.detail if one else "" for one in bad],
    }
    return pa.table({**{name: rows[name] for name in rows.column_names}, **columns}, schema=SCORES).combine_chunks()


def _look(data: bytes) -> tuple[BadImage | None, tuple[int, int], float, np.ndarray]:
    image = decode_image(data)
    if isinstance(image, BadImage):
        return image, (0, 0), 0.0, np.zeros((perceptual.SIDE, perceptual.SIDE), np.uint8)
    return None, (image.shape[1], image.shape[0]), contrast(image), shrink(luma(image))


def judge(scores: pa.Table, config: DedupConfig) -> Verdicts:
    """One verdict a row, the same for any order of the rows."""
    ids = np.array(scores["id"].to_pylist(), dtype=object)
    order = np.argsort(ids, kind="stable")
    distance, neighbour = _neighbours(scores, ids, order)
    reason, detail = _faults(scores, config)
    _refuse_repeats(scores, config, ids, order, reason, detail)
    return Verdicts(distance, neighbour, reason, detail)


def _neighbours(scores: pa.Table, ids: np.ndarray, order: np.ndarray) -> tuple[np.ndarray, list[str]]:
    readable = np.array([bad == "" for bad in scores["bad"].to_pylist()], bool)
    places = order[readable[order]]
    distance, neighbour = np.full(len(ids), NO_OTHER, np.int32), np.full(len(ids), "", dtype=object)
    found, position = nearest(scores["phash"].to_numpy()[places])
    distance[places] = found
    with_other = position >= 0
    neighbour[places[with_other]] = ids[places[position[with_other]]]
    return distance, neighbour.tolist()


def _faults(scores: pa.Table, config: DedupConfig) -> tuple[list[str], list[str]]:
    """Reason and detail of what is wrong with each image by itself."""
    reasons, details = scores["bad"].to_pylist(), scores["detail"].to_pylist()
    columns = [scores[name].to_pylist() for name in ("width", "height", "contrast")]
    for place, (width, height, spread) in enumerate(zip(*columns, strict=True)):
        if reasons[place]:
            continue
        if min(width, height) < config.min_size_px:
            reasons[place] = "too_small"
            details[place] = f"{width} x {height} px: a side < {config.min_size_px}"
        elif spread < config.min_contrast:
            reasons[place], details[place] = "blank", f"contrast {spread:.4f} < {config.min_contrast}"
    return reasons, details


def _refuse_repeats(
    scores: pa.Table, config: DedupConfig, ids: np.ndarray, order: np.ndarray, reason: list[str], detail: list[str]
) -> None:
    """Writes into `reason` and `detail`, first for equal bytes, then for near hashes among what is left."""
    if config.exact:
        places = _still_good(order, reason)
        digests = _codes(scores["image_sha256"])[places]
        for place, first in _repeats(places, np.zeros(len(places), np.uint64), digests, 0):
            reason[place], detail[place] = "duplicate_exact", f"same bytes as {ids[first]}"
    if config.max_hamming_distance < 0:
        return
    places = _still_good(order, reason)
    hashes = scores["phash"].to_numpy()
    groups = _codes(scores["caption"])[places] if config.same_caption_only else np.zeros(len(places), np.int64)
    for place, first in _repeats(places, hashes[places], groups, config.max_hamming_distance):
        bits = int(hashes[place] ^ hashes[first]).bit_count()
        reason[place], detail[place] = "duplicate_perceptual", f"{bits} bits from {ids[first]}"


def _still_good(order: np.ndarray, reason: Sequence[str]) -> np.ndarray:
    return np.array([place for place in order if not reason[place]], np.int64)


def _repeats(places: np.ndarray, hashes: np.ndarray, groups: np.ndarray, bits: int) -> Iterator[tuple[int, int]]:
    """(place of a repeat, place of what it repeats)."""
    first = repeated(hashes, groups, bits)
    return ((int(places[i]), int(places[first[i]])) for i in np.flatnonzero(first >= 0))


def _codes(column: pa.ChunkedArray) -> np.ndarray:
    """A number for each value, equal for equal values."""
    return column.combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)


def split(verdicts: Verdicts, shards: Sequence[pa.Table]) -> Iterator[Verdicts]:
    """The verdicts of each shard."""
    start = 0
    for shard in shards:
        rows = slice(start, start := start + shard.num_rows)
        yield Verdicts(*(column[rows] for column in vars(verdicts).values()))


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
