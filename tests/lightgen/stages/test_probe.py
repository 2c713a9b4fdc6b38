"""Stage `probe`: copies of winners that are what their names say, of a chosen few, the same every time."""

from itertools import islice

import numpy as np
import pytest
from pydantic import ValidationError

from lightgen.errors import ConfigError, StoreCorrupt
from lightgen.evaluation.damage import PROBES, SIDED, damaged
from lightgen.scenes.draw import draw
from lightgen.scenes.grammar import captions, parse
from lightgen.seeds import content_id
from lightgen.stages.probe import ProbeConfig, probe, probe_id
from lightgen.storage.pixels import Pixels, decode_image, encode_image
from lightgen.storage.store import Store, open_or_create
from lightgen.work import Context
from schemas import pairs as pairs_schema
from schemas.ref import ArtifactRef
from tests.lightgen.sealed import _shard, image, images, noise, pairs, seal

EVERY = ProbeConfig(max_reject_fraction=1.0)


@pytest.fixture
def store(tmp_path) -> Store:
    return open_or_create(str(tmp_path / "store"))


def positions(store: Store, count: int, n_shards: int = 1) -> tuple[ArtifactRef, list[ArtifactRef]]:
    """PAIRS of scenes whose captions name places."""
    drawn, rows = [], []
    for number, caption in enumerate(islice(captions("preference", "position"), count)):
        scene = parse(caption)
        assert scene is not None
        facts = {"caption": caption, "prompt_id": f"p{number}"}
        drawn.append(image(f"w{number}", encode_image(draw(scene, 64, number), "png"), **facts))
        rows.append({
            "id": content_id("pair", number), **facts, "winner_id": content_id(f"w{number}"), "loser_id": "l",
            "winner_generator": "teacher", "loser_generator": "student", "winner_score": 1.0, "loser_score": 0.0,
            "margin": 1.0, "weight": 1.0, "host": "", "source": "",
        })  # fmt: skip
    parts = [(rows[shard::n_shards], drawn[shard::n_shards]) for shard in range(n_shards)]
    version = images(store, drawn, [part for _, part in parts])
    return seal(store, "pairs", [_shard(part, pairs_schema.SCHEMA) for part, _ in parts], [version]), [version]


def pixels_of(store: Store, ref: ArtifactRef, id: str) -> Pixels:
    found = decode_image(store.open(ref).member(id, "png"))
    assert isinstance(found, np.ndarray)
    return found


def test_each_probe_shows_what_its_name_says_and_is_found_by_its_pair(store: Store) -> None:
    given, drawn = positions(store, 8)
    made = probe(given, drawn, EVERY, Context(store))
    assert store.open(made).reject_reasons == {}
    rows = store.open(given).table().to_pylist()
    sided = [row for row in rows if SIDED.search(row["caption"])]
    assert 0 < len(sided) < len(rows), "captions with and without sides"
    assert made.rows == 5 * len(rows) + len(sided)
    by_id = {row["id"]: row for row in store.open(made).table().to_pylist()}
    for place, row in enumerate(rows):
        winner = pixels_of(store, drawn[0], row["winner_id"])
        other = pixels_of(store, drawn[0], rows[(place + 1) % len(rows)]["winner_id"])
        for number, name in enumerate(PROBES):
            id = probe_id(name, row["winner_id"], row["caption"])
            if name == "mirrored" and row not in sided:
                assert id not in by_id
                continue
            facts = by_id[id]
            assert (facts["generator"], facts["index"], facts["seed"]) == (name, number, 0)
            assert (facts["caption"], facts["prompt_id"]) == (row["caption"], row["prompt_id"])
            found = pixels_of(store, made, id)
            wrong = name in ("shuffled_caption", "text_in_image")
            assert np.array_equal(found, damaged(name, other if wrong else winner))
        shown = {name: pixels_of(store, made, probe_id(name, row["winner_id"], row["caption"])) for name in PROBES[:5]}
        assert np.array_equal(shown["same"], winner)
        assert np.array_equal(shown["shuffled_caption"], other)
        for name in ("blurred", "jpeg"):
            assert 0 < np.abs(shown[name].astype(int) - winner).mean() < 64
        assert np.array_equal(shown["text_in_image"][0], other[0]), "the order stands in the middle"
        assert (shown["text_in_image"] != other).any(axis=2).mean() > 0.05
        if row in sided:
            mirrored = pixels_of(store, made, probe_id("mirrored", row["winner_id"], row["caption"]))
            assert np.array_equal(mirrored[:, ::-1], winner)


def test_no_file_of_a_probe_is_that_of_the_image_so_that_no_score_of_it_is_taken_over(store: Store) -> None:
    given, drawn = positions(store, 4)
    made = store.open(probe(given, drawn, EVERY, Context(store)))
    digests = set(made.table()["image_sha256"].to_pylist())
    assert not digests & set(store.open(drawn[0]).table()["image_sha256"].to_pylist())


def test_some_pairs_are_chosen_the_same_ones_for_every_probe_and_every_time(tmp_path) -> None:
    found = []
    for place in range(2):
        store = open_or_create(str(tmp_path / str(place)))
        given, drawn = positions(store, 200, 4)
        config = ProbeConfig(probes=("same", "blurred", "mirrored"), per_probe=40)
        found.append(store.open(probe(given, drawn, config, Context(store, 7))).table())
    assert found[0].equals(found[1])
    chosen = {name: set() for name in ("same", "blurred", "mirrored")}
    for row in found[0].to_pylist():
        chosen[row["generator"]].add(row["prompt_id"])
    assert chosen["same"] == chosen["blurred"]
    assert 20 < len(chosen["same"]) < 60
    assert 20 < len(chosen["mirrored"]) < 60, "as many of the fewer pairs that name sides"
    store = open_or_create(str(tmp_path / "0"))
    given, drawn = positions(store, 200, 4)
    other = store.open(probe(given, drawn, ProbeConfig(per_probe=40), Context(store, 8))).table()
    assert set(other["prompt_id"].to_pylist()) != set(found[0]["prompt_id"].to_pylist())


def test_a_picture_that_cannot_be_read_or_swapped_is_refused_with_its_reason(store: Store) -> None:
    given, drawn = pairs(store, 3)
    rows = store.open(given).table().to_pylist()
    with pytest.raises(StoreCorrupt, match="no parent has image"):
        probe(given, drawn[:1], EVERY, Context(store))
    alone = seal(store, "pairs", [_shard(rows[:1], pairs_schema.SCHEMA)], drawn)
    version = store.open(probe(alone, drawn, EVERY, Context(store)))
    assert version.reject_reasons == {"no_other_caption": 2}
    assert version.rows == 3
    broken = [image(f"winner {number}", b"no image", caption=row["caption"]) for number, row in enumerate(rows)]
    version = store.open(probe(given, [drawn[0], images(store, broken)], EVERY, Context(store)))
    assert version.reject_reasons == {"not_an_image": 15}


def test_a_winner_of_several_pairs_is_taken_once(store: Store) -> None:
    given, drawn = pairs(store, 2)
    first, second = store.open(given).table().to_pylist()
    twice = seal(store, "pairs", [_shard([first, {**first, "id": "again"}, second], pairs_schema.SCHEMA)], drawn)
    assert probe(twice, drawn, EVERY, Context(store)).rows == 2 * 5


def test_settings_and_pairs_must_make_sense(store: Store) -> None:
    with pytest.raises(ValidationError, match="name each once"):
        ProbeConfig(probes=("same", "same"))
    with pytest.raises(ConfigError, match="holds no pairs"):
        probe(seal(store, "pairs", [_shard([], pairs_schema.SCHEMA)]), [], EVERY, Context(store))


def test_damage_is_told_apart_at_every_size() -> None:
    for side in (8, 33, 256):
        pixels = noise(1, side)
        for name in PROBES:
            found = damaged(name, pixels)
            assert found.shape == pixels.shape
            assert found.dtype == np.uint8
            assert np.array_equal(found, pixels) == (name in ("same", "shuffled_caption"))
