"""Stage `dedup`: which images survive and why, whatever the shards, the order and the interruptions."""

import hashlib
import json
import random

import numpy as np
import pyarrow as pa
import pytest
from lightgen.stages.dedup import DedupConfig, dedup
from lightgen.storage.build import ShardOutput, build, make_plan
from PIL import Image

from lightgen.decisions import image_scores
from lightgen.errors import TooManyRejects
from lightgen.seeds import content_id
from lightgen.stages import dedup as stage
from lightgen.storage.pixels import encode_image
from lightgen.storage.store import Store, open_or_create
from schemas import images as images_schema
from schemas.ref import ArtifactRef


def picture(seed: int, side: int = 48) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return np.array(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC))


def noisy(image: np.ndarray, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 2, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def file_of(image: np.ndarray) -> bytes:
    return encode_image(image, "png")


def row(name: str, data: bytes, caption: str = "") -> tuple[dict, bytes]:
    """A row whose id is a hash of `name`, so that the order of ids has nothing to do with the order of rows."""
    fields = {
        "id": content_id(name),
        "prompt_id": content_id("prompt", name),
        "caption": caption or f"a picture of {name}",
        "sample": 0,
        "seed": 1,
        "width": 48,
        "height": 48,
        "format": "png",
        "image_sha256": hashlib.sha256(data).hexdigest(),
    }
    return fields, data


def mixture() -> list[tuple[dict, bytes]]:
    """Six good pictures, and one or more of each fault."""
    rows = [row(f"good {i}", file_of(picture(i))) for i in range(6)]
    rows += [row(f"copy {i}", file_of(picture(0))) for i in range(2)]
    rows += [row("near 3", file_of(noisy(picture(3), 9)), "a picture of good 3")]
    rows += [row("near, other caption", file_of(noisy(picture(4), 9)), "something else")]
    rows += [row("flat", file_of(np.full((48, 48, 3), 200, np.uint8)))]
    rows += [row("tiny", file_of(picture(50, side=24)))]
    rows += [row("cut", file_of(picture(51))[:-300]), row("page", b"<html>"), row("nothing", b"")]
    return rows


def sealed(store: Store, rows: list[tuple[dict, bytes]], n_shards: int) -> ArtifactRef:
    """`rows` as a version of images in `n_shards` shards of unequal size."""
    cuts = [round(len(rows) * (i / n_shards) ** 1.5) for i in range(n_shards + 1)]
    tag = content_id([fields for fields, _ in rows])
    plan = make_plan("images", "generate", [stage], DedupConfig(), 0, [], n_shards, extra={"test": tag})

    def make_shard(shard: int) -> ShardOutput:
        part = rows[cuts[shard] : cuts[shard + 1]]
        table = pa.Table.from_pylist([fields for fields, _ in part], schema=images_schema.SCHEMA)
        return ShardOutput(table=table, rows_in=len(part), blobs=[{"png": data, "json": b"{}"} for _, data in part])

    return build(store, plan, make_shard, images_schema.SCHEMA)


@pytest.fixture
def store(tmp_path) -> Store:
    return open_or_create(str(tmp_path / "store"))


def run(store: Store, images: ArtifactRef, **changes) -> ArtifactRef:
    return dedup(images, DedupConfig(**{"max_reject_fraction": 0.9, **changes}), store, seed=1)


def reasons(store: Store, kept: ArtifactRef) -> dict[str, str]:
    """Reason by id of every refused row."""
    rejects = store.open(kept).rejects().to_pylist()
    return {one["id"]: one["reason"] for one in rejects}


def test_every_fault_has_its_reason_and_nothing_vanishes(store: Store) -> None:
    rows = mixture()
    kept = run(store, sealed(store, rows, 1))
    refused = reasons(store, kept)
    table = store.open(kept).table()
    assert {*table["id"].to_pylist(), *refused} == {fields["id"] for fields, _ in rows}
    named = {fields["caption"]: refused.get(fields["id"], "") for fields, _ in rows}
    assert named["a picture of flat"] == "blank"
    assert named["a picture of tiny"] == "too_small"
    assert named["a picture of cut"] == "image_truncated"
    assert named["a picture of page"] == "not_an_image"
    assert named["a picture of nothing"] == "empty_file"
    assert named["something else"] == ""
    copies = [content_id("good 0"), content_id("copy 0"), content_id("copy 1")]
    assert {id: refused.get(id, "") for id in copies} == {
        id: "" if id == min(copies) else "duplicate_exact" for id in copies
    }
    near = [content_id("good 3"), content_id("near 3")]
    assert refused[max(near)] == "duplicate_perceptual"
    assert min(near) not in refused


def test_a_reject_names_the_one_that_was_kept_and_keeps_its_scores(store: Store) -> None:
    kept = run(store, sealed(store, mixture(), 1))
    near = sorted([content_id("good 3"), content_id("near 3")])
    reject = next(one for one in store.open(kept).rejects().to_pylist() if one["id"] == near[1])
    scores = json.loads(reject["row"])
    assert near[0] in reject["detail"]
    assert reject["detail"].startswith(f"{scores['nearest_distance']} bits")
    assert scores["nearest_id"] == near[0]
    assert scores["contrast"] > 0.05
    assert scores["phash"] > 0


def test_scores_of_kept_rows(store: Store) -> None:
    rows = [row("a", file_of(picture(1))), row("b", file_of(picture(2))), row("c", file_of(noisy(picture(2), 3)))]
    table = store.open(run(store, sealed(store, rows, 1))).table()
    found = {one["id"]: one for one in table.to_pylist()}
    hashes = {id: one["phash"] for id, one in found.items()}
    assert len(found) == 3
    for id, one in found.items():
        distances = {other: (hashes[id] ^ hashes[other]).bit_count() for other in hashes if other != id}
        assert one["nearest_distance"] == min(distances.values())
        assert distances[one["nearest_id"]] == one["nearest_distance"]


def test_an_only_image_has_no_neighbour(store: Store) -> None:
    (only,) = store.open(run(store, sealed(store, [row("a", file_of(picture(1)))], 1))).table().to_pylist()
    assert only["nearest_distance"] == 65
    assert only["nearest_id"] == ""


def test_shards_and_order_do_not_matter(store: Store) -> None:
    rows = mixture()
    shuffled = random.Random(3).sample(rows, len(rows))
    first, second = run(store, sealed(store, rows, 1)), run(store, sealed(store, shuffled, 4))
    assert first.version != second.version
    assert first.fingerprint == second.fingerprint
    assert reasons(store, first) == reasons(store, second)


def test_shard_i_holds_the_survivors_of_image_shard_i(store: Store) -> None:
    images = sealed(store, mixture(), 3)
    kept, source = store.open(run(store, images)), store.open(images)
    assert kept.n_shards == 3
    for shard in range(3):
        ids = source.table(shard)["id"].to_pylist()
        survivors = kept.table(shard)["id"].to_pylist()
        assert survivors == [id for id in ids if id in set(survivors)]
        assert {*survivors, *kept.rejects(shard)["id"].to_pylist()} == set(ids)


def test_thresholds_decide(store: Store) -> None:
    images = sealed(store, mixture(), 2)
    other = content_id("near, other caption")
    near = {content_id("good 4"), other}
    assert not near & reasons(store, run(store, images)).keys()
    assert near & reasons(store, run(store, images, same_caption_only=False)).keys() == {max(near)}
    off = reasons(store, run(store, images, max_hamming_distance=-1, exact=False, min_contrast=0, min_size_px=8))
    assert set(off.values()) == {"image_truncated", "not_an_image", "empty_file"}
    hashed_only = reasons(store, run(store, images, exact=False, same_caption_only=False, max_hamming_distance=0))
    assert list(hashed_only.values()).count("duplicate_perceptual") >= 2


def test_other_thresholds_do_not_decode_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    images = sealed(store, mixture(), 2)
    first = run(store, images)

    def never(data: bytes) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(image_scores, "decode_image", never)
    assert run(store, images) == first
    stricter = run(store, images, same_caption_only=False)
    assert stricter.version != first.version
    assert run(store, images, workers=5) == first


def test_damaged_scratch_is_computed_again(store: Store) -> None:
    images = sealed(store, mixture(), 2)
    first = reasons(store, run(store, images))
    found = sorted(stage.open_scratch(store, images).glob("scores-*.parquet"))
    assert len(found) == 2
    found[0].write_bytes(b"")
    damaged = bytearray(found[1].read_bytes())
    damaged[len(damaged) // 3] ^= 64
    found[1].write_bytes(damaged)
    again = run(store, images, min_size_px=31)
    assert reasons(store, again) == first


def test_too_many_rejects_publish_nothing_and_cost_nothing_later(store: Store) -> None:
    images = sealed(store, mixture(), 1)
    with pytest.raises(TooManyRejects):
        run(store, images, max_reject_fraction=0.1)
    assert not store.log("kept")
    assert run(store, images).rows == 7
