"""Thresholds over the scores of images: which are kept, and why the others are not."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from lightgen.decisions.hamming import repeated
from lightgen.decisions.perceptual import NO_OTHER, nearest


class Thresholds(BaseModel):
    """What an image must be to be kept."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_size_px: int = Field(default=32, ge=1, description="the shorter side")
    min_contrast: float = Field(
        default=0.01, ge=0, le=0.5, description="standard deviation of the liveliest channel, 0 to 0.5"
    )
    exact: bool = Field(
        default=True, description="one of the images with the same bytes is kept, whatever their captions"
    )
    max_hamming_distance: int = Field(
        default=4, ge=-1, le=64, description="bits in which a repeat may differ; -1 is off"
    )
    same_caption_only: bool = Field(
        default=True, description="perceptual repeats count among images of one caption; the hash sees no colour"
    )


@dataclass(frozen=True)
class Verdicts:
    """For each row of a table of scores: its neighbour, and why it is refused ("" if kept)."""

    distance: np.ndarray
    neighbour: list[str]
    reason: list[str]
    detail: list[str]


def judge(scores: pa.Table, thresholds: Thresholds) -> Verdicts:
    """One verdict a row, the same for any order of the rows."""
    ids = np.array(scores["id"].to_pylist(), dtype=object)
    order = np.argsort(ids, kind="stable")
    distance, neighbour = _neighbours(scores, ids, order)
    reason, detail = _faults(scores, thresholds)
    _refuse_repeats(scores, thresholds, ids, order, reason, detail)
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


def _faults(scores: pa.Table, thresholds: Thresholds) -> tuple[list[str], list[str]]:
    """Reason and detail of what is wrong with each image by itself."""
    reasons, details = scores["bad"].to_pylist(), scores["detail"].to_pylist()
    columns = [scores[name].to_pylist() for name in ("width", "height", "contrast")]
    for place, (width, height, spread) in enumerate(zip(*columns, strict=True)):
        if reasons[place]:
            continue
        if min(width, height) < thresholds.min_size_px:
            reasons[place] = "too_small"
            details[place] = f"{width} x {height} px: a side < {thresholds.min_size_px}"
        elif spread < thresholds.min_contrast:
            reasons[place], details[place] = "blank", f"contrast {spread:.4f} < {thresholds.min_contrast}"
    return reasons, details


def _refuse_repeats(
    scores: pa.Table, thresholds: Thresholds, ids: np.ndarray, order: np.ndarray, reason: list[str], detail: list[str]
) -> None:
    """Writes into `reason` and `detail`, first for equal bytes, then for near hashes among what is left."""
    if thresholds.exact:
        places = _still_good(order, reason)
        digests = _codes(scores["image_sha256"])[places]
        for place, first in _repeats(places, np.zeros(len(places), np.uint64), digests, 0):
            reason[place], detail[place] = "duplicate_exact", f"same bytes as {ids[first]}"
    if thresholds.max_hamming_distance < 0:
        return
    places = _still_good(order, reason)
    hashes = scores["phash"].to_numpy()
    groups = _codes(scores["caption"])[places] if thresholds.same_caption_only else np.zeros(len(places), np.int64)
    for place, first in _repeats(places, hashes[places], groups, thresholds.max_hamming_distance):
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
