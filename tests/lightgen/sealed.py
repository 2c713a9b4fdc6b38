"""Versions of any kind, sealed from what a test gives; imported by path."""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa

from lightgen.config import Config
from lightgen.scenes.draw import draw
from lightgen.scenes.grammar import captions, parse
from lightgen.seeds import content_id
from lightgen.storage.pixels import encode_image
from lightgen.storage.plans import Stage
from lightgen.storage.shards import ShardOutput
from lightgen.storage.store import Store
from schemas import images as images_schema
from schemas import kept as kept_schema
from schemas import pairs as pairs_schema
from schemas import prompts as prompts_schema
from schemas import scores as scores_schema
from schemas.ref import ArtifactRef, Kind
from tests.worked_version import build

Row = Mapping[str, Any]


class _Given(Config):
    """What the version holds: other contents are other versions."""

    given: str
    format: str = "png"


def seal(
    store: Store, kind: Kind, shards: Sequence[ShardOutput], parents: Sequence[ArtifactRef] = (), stage: str = "given"
) -> ArtifactRef:
    """A version of these shards."""
    given = content_id(*[[repr(one.table.to_pylist()), _digests(one), one.rows_in] for one in shards])
    plan = Stage(stage, kind, revision=1).plan(_Given(given=given), 0, parents, len(shards))
    return build(store, plan, lambda shard: shards[shard], max_reject_fraction=1.0, parents=parents)


def _digests(shard: ShardOutput) -> list[list[str]]:
    blobs = [] if shard.blobs is None else shard.blobs
    return [[hashlib.sha256(data).hexdigest() for _, data in sorted(one.items())] for one in blobs]


def dealt(rows: Sequence[Any], n_shards: int) -> list[list[Any]]:
    """Rows in `n_shards` parts of unequal size."""
    cuts = [round(len(rows) * (shard / n_shards) ** 1.5) for shard in range(n_shards + 1)]
    return [list(rows[cuts[shard] : cuts[shard + 1]]) for shard in range(n_shards)]


def prompts(store: Store, texts: Sequence[str], n_shards: int = 1) -> ArtifactRef:
    """PROMPTS of `texts`, from the sources test:0 and test:1 in turns."""
    facts = {"tokens": 5, "licence": "none", "novelty": 0.0}
    rows = [
        {"id": f"{place:032x}", "caption": text, "source": f"test:{place % 2}", "rank": place, **facts}
        for place, text in enumerate(texts)
    ]
    return seal(store, "prompts", [_shard(rows[shard::n_shards], prompts_schema.SCHEMA) for shard in range(n_shards)])


def image(name: str, data: bytes, caption: str = "", **facts: object) -> tuple[Row, bytes]:
    """A row of IMAGES with its file; its id is a hash of `name`, so ids do not sort as rows stand."""
    row = {
        "id": content_id(name), "prompt_id": content_id("prompt", name), "caption": caption or f"a picture of {name}",
        "index": 0, "seed": 1, "generator": "given", "width": 48, "height": 48, "format": "png",
        "image_sha256": hashlib.sha256(data).hexdigest(),
    }  # fmt: skip
    return {**row, **facts}, data


Drawn = Sequence[tuple[Row, bytes]]


def images(store: Store, rows: Drawn, dealing: int | Sequence[Drawn] = 1, stage: str = "given") -> ArtifactRef:
    """IMAGES of rows and files, in so many shards of unequal size, or dealt as given; those of `fetch` have hosts."""
    schema, shards = images_schema.FETCHED if stage == "fetch" else images_schema.SCHEMA, []
    for part in dealt(rows, dealing) if isinstance(dealing, int) else dealing:
        blobs = [{"png": data, "json": b"{}"} for _, data in part]
        shards.append(_shard([row for row, _ in part], schema, blobs))
    return seal(store, "images", shards, stage=stage)


def kept_of(store: Store, drawn: ArtifactRef, ids: Collection[str]) -> ArtifactRef:
    """KEPT of the images with these ids."""
    version, shards = store.open(drawn), []
    for shard in range(version.n_shards):
        rows = version.table(shard, columns=kept_schema.SCHEMA.names).to_pylist()
        shards.append(_shard([row for row in rows if row["id"] in ids], kept_schema.SCHEMA))
    return seal(store, "kept", shards, [drawn], stage="filter")


def scores(store: Store, drawn: ArtifactRef, answers: Mapping[str, Row], schema: pa.Schema) -> ArtifactRef:
    """SCORES of every image by its id; `schema` is that of the answers, and what is not given is null."""
    whole, version, shards = scores_schema.schema(schema), store.open(drawn), []
    for shard in range(version.n_shards):
        rows = version.table(shard, columns=[field.name for field in scores_schema.ROW]).to_pylist()
        filled = [{**dict.fromkeys(schema.names), "unscored": "", "unscored_detail": "", **answers[row["id"]], **row}
                  for row in rows]  # fmt: skip
        shards.append(_shard(filled, whole))
    return seal(store, "scores", shards, [drawn])


def noise(number: int, side_px: int = 32) -> np.ndarray:
    """An image that shows nothing."""
    return np.random.default_rng(number).integers(0, 256, (side_px, side_px, 3), dtype=np.uint8)


def pairs(store: Store, count: int, broken: int | None = None) -> tuple[ArtifactRef, list[ArtifactRef]]:
    """PAIRS of right scenes against noise, and their IMAGES; the loser of pair `broken` is no image.

    A winner is twice as large as a loser: it takes the encoders' crop, as an image of the web would.
    """
    rows, winners, losers = [], [], []
    for number, caption in enumerate(islice(captions("preference", "colors"), count)):
        scene = parse(caption)
        assert scene is not None
        facts = {"caption": caption, "prompt_id": content_id("question", number), "seed": number}
        lost = b"no image" if number == broken else encode_image(noise(number), "png")
        winners.append(image(f"winner {number}", encode_image(draw(scene, 64, number), "png"), **facts))
        losers.append(image(f"loser {number}", lost, **facts))
        ids = {"winner_id": content_id(f"winner {number}"), "loser_id": content_id(f"loser {number}")}
        sides = {
            "winner_generator": "teacher", "loser_generator": "student", "winner_score": 1.0, "loser_score": 0.0,
            "margin": 1.0, "host": "", "source": "",
        }  # fmt: skip
        rows.append(
            {
                "id": content_id("pair", number),
                "prompt_id": content_id("question", number),
                "caption": caption,
                **ids,
                **sides,
            }
        )
    drawn = [images(store, losers), images(store, winners)]
    return seal(store, "pairs", [_shard(rows, pairs_schema.SCHEMA)], drawn, stage="pair"), drawn


def read_json(store: Store, ref: ArtifactRef, name: str) -> Any:
    """A JSON file of a version."""
    return json.loads(store.open(ref).file(name).read_text())


def _shard(rows: Sequence[Row], schema: pa.Schema, blobs: list[dict[str, bytes]] | None = None) -> ShardOutput:
    table = pa.Table.from_pylist(list(rows), schema=schema)
    return ShardOutput(table, rows_in=len(rows), schema=schema, blobs=blobs)
