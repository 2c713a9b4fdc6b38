"""PAIRS + IMAGES -> IMAGES: damaged and wrong copies of winners, which a judge that is worth its name tells from them.

A map. Memory: the files of the pairs of one shard that were chosen; pixels one picture at a time.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import pyarrow as pa
from pydantic import Field, field_validator

from lightgen.config import RUN, Config
from lightgen.engines.build import build
from lightgen.errors import ConfigError, StoreCorrupt
from lightgen.evaluation.damage import OF_ANOTHER, PROBES, Probe, damaged, encode_probe, fits
from lightgen.seeds import content_id, derive_seed
from lightgen.storage.pixels import BadImage, decode_image
from lightgen.storage.plans import Stage
from lightgen.storage.shards import Reject, ShardOutput
from lightgen.storage.version import Version
from lightgen.work import Context, MakeShard, Needs, Work, Worker
from schemas.canonical import canonical_json
from schemas.images import SCHEMA
from schemas.ref import ArtifactRef

STAGE = Stage("probe", "images", revision=1)
NO_OTHER = "no_other_caption"
COLUMNS = ["id", "prompt_id", "caption", "winner_id"]
Row = dict[str, Any]


class ProbeConfig(Config):
    """Which copies are made, and of how many pairs."""

    probes: tuple[Probe, ...] = Field(default=PROBES, min_length=1, description="kinds of copies, each named once")
    per_probe: int = Field(default=200, ge=1, description="pairs that each is made of, about: a hash chooses them")
    format: Literal["png"] = Field(default="png", description="probe `same` must have the very pixels")
    max_reject_fraction: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="share of rows that may be refused; more end the stage",
        json_schema_extra=RUN,
    )

    @field_validator("probes")
    @classmethod
    def _once(cls, probes: tuple[Probe, ...]) -> tuple[Probe, ...]:
        if len(set(probes)) != len(probes):
            raise ValueError("probes: name each once")
        return probes


class _Work(Config):
    """The settings, with how many pairs there are of each probe: the parents say so already."""

    probes: tuple[Probe, ...]
    per_probe: int
    format: Literal["png"]
    there: dict[str, int] = Field(json_schema_extra=RUN)
    max_reject_fraction: float = Field(json_schema_extra=RUN)


def probe_id(name: str, winner_id: str, caption: str) -> str:
    """Id of a probe: who knows the pair finds it."""
    return content_id("probe", name, winner_id, caption)


def probe(pairs: ArtifactRef, images: Sequence[ArtifactRef], config: ProbeConfig, context: Context) -> ArtifactRef:
    """Probes of the winners of some pairs; `generator` is the name of the probe. Raises ConfigError without pairs."""
    source = context.store.open(pairs)
    if not source.rows:
        raise ConfigError(f"{pairs} holds no pairs, so no judge can be audited by them")
    there = _there(source, config.probes)
    settings = _Work(**config.model_dump(), there=there)
    parents = [pairs, *images]
    plan = STAGE.plan(settings, context.seed, parents, source.n_shards)
    total = sum(min(config.per_probe, count) for count in there.values())
    needs = Needs(unit="images", total=total)
    return build(Work.of(plan, settings, parents, context, f"{__name__}:open", needs), context)


def _there(pairs: Version, probes: Sequence[Probe]) -> dict[str, int]:
    """How many pairs each probe could be made of; captions are read one shard at a time."""
    found = {name: 0 if name == "mirrored" else pairs.rows for name in probes}
    if "mirrored" in found:
        for shard in range(pairs.n_shards):
            captions = pairs.table(shard, columns=["caption"])["caption"].to_pylist()
            found["mirrored"] += sum(fits("mirrored", caption) for caption in captions)
    return found


def open(work: Work, worker: Worker) -> MakeShard:
    """See `lightgen.work`."""
    settings = _Work.model_validate(work.config)
    pairs, *images = (worker.store.open(ref) for ref in work.parents)

    def make_shard(shard: int) -> ShardOutput:
        rows = pairs.table(shard, columns=COLUMNS).to_pylist()
        wanted = list(_wanted(rows, settings, work.plan.seed))
        shown = [one for _, row, other in wanted for one in (row, other) if one is not None]
        files = _files(images, shard, {one["winner_id"] for one in shown})
        made = [_made(name, row, other, files, settings) for name, row, other in wanted]
        worker.progress.advance(len(made))
        return _shard(made)

    return make_shard


def _wanted(rows: Sequence[Row], settings: _Work, seed: int) -> Iterator[tuple[Probe, Row, Row | None]]:
    """Probe, pair, and the pair whose picture is shown where that is another one; each winner is taken once."""
    seen: set[str] = set()
    for place, row in enumerate(rows):
        for name in settings.probes:
            id = probe_id(name, row["winner_id"], row["caption"])
            if id in seen or not fits(name, row["caption"]) or not _chosen(row["id"], name, settings, seed):
                continue
            seen.add(id)
            yield name, row, _other(rows, place)


def _chosen(pair: str, name: Probe, settings: _Work, seed: int) -> bool:
    """Whether the hash of a pair is among the smallest. The same hash for every probe: they share their pairs."""
    return derive_seed(seed, STAGE.name, pair) * settings.there[name] < settings.per_probe << 63


def _other(rows: Sequence[Row], place: int) -> Row | None:
    """The next pair of the shard that has another caption; after the last comes the first."""
    turned = (*rows[place + 1 :], *rows[:place])
    return next((row for row in turned if row["caption"] != rows[place]["caption"]), None)


def _files(images: Sequence[Version], shard: int, ids: set[str]) -> dict[str, bytes]:
    """The files of these images. Raises StoreCorrupt where one is missing."""
    found: dict[str, bytes] = {}
    for version in images:
        members = version.members_of(shard, ids)
        found |= {id: next(data for name, data in each.items() if name != "json") for id, each in members.items()}
    if missing := sorted(ids - found.keys()):
        raise StoreCorrupt(f"probe: no parent has image {missing[0]} in shard {shard}")
    return found


def _made(
    name: Probe, row: Row, other: Row | None, files: Mapping[str, bytes], settings: _Work
) -> tuple[Row, bytes] | Reject:
    """One probe: its row and its file."""
    id = probe_id(name, row["winner_id"], row["caption"])
    shown = other if name in OF_ANOTHER else row
    if shown is None:
        return Reject(id, NO_OTHER, "all pairs of this shard have one caption", row)
    pixels = decode_image(files[shown["winner_id"]])
    if isinstance(pixels, BadImage):
        return Reject(id, pixels.reason, pixels.detail, row)
    data = encode_probe(name, damaged(name, pixels))
    height, width, _ = pixels.shape
    facts = {"id": id, "prompt_id": row["prompt_id"], "caption": row["caption"], "generator": name, "seed": 0}
    sizes = {"width": width, "height": height, "format": settings.format, "index": settings.probes.index(name)}
    return {**facts, **sizes, "image_sha256": hashlib.sha256(data).hexdigest()}, data


def _shard(made: Sequence[tuple[Row, bytes] | Reject]) -> ShardOutput:
    kept = [one for one in made if not isinstance(one, Reject)]
    rejects = [one for one in made if isinstance(one, Reject)]
    blobs = [{"png": data, "json": canonical_json(row)} for row, data in kept]
    table = pa.Table.from_pylist([row for row, _ in kept], schema=SCHEMA)
    return ShardOutput(table=table, schema=SCHEMA, rejects=rejects, rows_in=len(made), blobs=blobs)
