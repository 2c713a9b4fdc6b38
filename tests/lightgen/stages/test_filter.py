"""Stage `filter`: which images survive and why, whatever the shards and their order, without a look at a pixel."""

import json
import random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from lightgen.decisions.repeats import Repeats
from lightgen.decisions.rules import Rule
from lightgen.errors import ConfigError, StoreCorrupt, TooManyRejects
from lightgen.scorers.pixels import PixelsConfig
from lightgen.seeds import content_id
from lightgen.stages import score as score_stage
from lightgen.stages.filter import REPEATS, FilterConfig, filter_images
from lightgen.stages.score import ScoreConfig, score
from lightgen.storage.pixels import encode_image
from lightgen.storage.store import Store, open_or_create
from lightgen.work import Context
from schemas.ref import ArtifactRef
from tests.lightgen.sealed import Row, image, images, noise, read_json, scores

EXACT, NEAR = REPEATS
SCORES = ScoreConfig(scorer=PixelsConfig())


def picture(seed: int, side: int = 48) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return np.array(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC))


def noisy(pixels: np.ndarray, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 2, pixels.shape)
    return np.clip(pixels + noise, 0, 255).astype(np.uint8)


def file_of(pixels: np.ndarray) -> bytes:
    return encode_image(pixels, "png")


def flat(speck: tuple[int, int, int] | None = None, side: int = 48) -> np.ndarray:
    """One colour all over, but for a pixel."""
    pixels = np.full((side, side, 3), (255, 1, 77), np.uint8)
    if speck is not None:
        pixels[3, 4] = speck
    return pixels


def mixture() -> list[tuple[Row, bytes]]:
    """Six good pictures, and one or more of each fault."""
    rows = [image(f"good {i}", file_of(picture(i))) for i in range(6)]
    rows += [image(f"copy {i}", file_of(picture(0))) for i in range(2)]
    rows += [image("near 3", file_of(noisy(picture(3), 9)), "a picture of good 3")]
    rows += [image("near, other caption", file_of(noisy(picture(4), 9)), "something else")]
    rows += [image("flat", file_of(flat())), image("nearly flat", file_of(flat((253, 3, 77))))]
    rows += [image("tiny", file_of(picture(50, side=24)))]
    rows += [image("cut", file_of(picture(51))[:-300]), image("page", b"<html>"), image("nothing", b"")]
    return rows


@pytest.fixture
def store(tmp_path) -> Store:
    return open_or_create(str(tmp_path / "store"))


@pytest.fixture
def drawn(store: Store) -> ArtifactRef:
    return images(store, mixture())


def run(store: Store, drawn: ArtifactRef, **changes: Any) -> ArtifactRef:
    context, config = Context(store), FilterConfig(**{"max_reject_fraction": 0.9, **changes})
    return filter_images(drawn, {"pixels": score(drawn, SCORES, context)}, config, context)


def reasons(store: Store, kept: ArtifactRef) -> dict[str, str]:
    """Reason by id of every refused row."""
    return {one["id"]: one["reason"] for one in store.open(kept).rejects().to_pylist()}


def test_every_fault_has_its_reason_and_nothing_vanishes(store: Store, drawn: ArtifactRef) -> None:
    kept = run(store, drawn)
    refused, rows = reasons(store, kept), mixture()
    table = store.open(kept).table()
    assert {*table["id"].to_pylist(), *refused} == {row["id"] for row, _ in rows}
    named = {row["caption"].removeprefix("a picture of "): refused.get(row["id"], "") for row, _ in rows}
    assert (named["flat"], named["nearly flat"], named["tiny"]) == ("blank", "blank", "too_small")
    assert (named["cut"], named["page"]) == ("image_truncated", "not_an_image")
    assert named["nothing"] == "empty_file"
    assert named["something else"] == ""
    copies = [content_id("good 0"), content_id("copy 0"), content_id("copy 1")]
    assert {id: refused.get(id, "") for id in copies} == {
        id: "" if id == min(copies) else "duplicate_exact" for id in copies
    }
    near = [content_id("good 3"), content_id("near 3")]
    assert refused[max(near)] == "duplicate_perceptual"
    assert min(near) not in refused


def test_an_image_that_could_not_be_scored_stays_a_row_of_the_scores_and_is_refused_here(
    store: Store, drawn: ArtifactRef
) -> None:
    scores = store.open(score(drawn, SCORES, Context(store)))
    assert (scores.rows, scores.reject_reasons) == (drawn.rows, {})
    unscored = {row["id"]: row for row in scores.table().to_pylist() if row["unscored"]}
    assert sorted(row["unscored"] for row in unscored.values()) == ["empty_file", "image_truncated", "not_an_image"]
    assert all(row["contrast"] is None and row["phash"] is None for row in unscored.values())
    rejects = {one["id"]: one for one in store.open(run(store, drawn)).rejects().to_pylist()}
    for id, row in unscored.items():
        assert (rejects[id]["reason"], rejects[id]["detail"]) == (row["unscored"], row["unscored_detail"])


def test_a_reject_names_the_one_that_was_kept_and_keeps_its_scores(store: Store, drawn: ArtifactRef) -> None:
    near = sorted([content_id("good 3"), content_id("near 3")])
    reject = next(one for one in store.open(run(store, drawn)).rejects().to_pylist() if one["id"] == near[1])
    row = json.loads(reject["row"])
    assert reject["detail"].endswith(f"bits from {near[0]}")
    assert row["pixels.contrast"] > 0.05
    assert row["pixels.phash"] > 0


def test_shards_and_order_do_not_matter(store: Store) -> None:
    rows = mixture()
    shuffled = random.Random(3).sample(rows, len(rows))
    first, second = (run(store, images(store, given, n)) for given, n in ((rows, 1), (shuffled, 4)))
    assert first.version != second.version
    assert first.fingerprint == second.fingerprint
    assert reasons(store, first) == reasons(store, second)


def test_shard_i_holds_the_survivors_of_image_shard_i(store: Store) -> None:
    drawn = images(store, mixture(), 3)
    kept, source = store.open(run(store, drawn)), store.open(drawn)
    assert kept.n_shards == 3
    for shard in range(3):
        ids = source.table(shard)["id"].to_pylist()
        survivors = kept.table(shard)["id"].to_pylist()
        assert survivors == [id for id in ids if id in set(survivors)]
        assert {*survivors, *kept.rejects(shard)["id"].to_pylist()} == set(ids)


def test_rules_decide(store: Store, drawn: ArtifactRef) -> None:
    near = {content_id("good 4"), content_id("near, other caption")}
    assert not near & reasons(store, run(store, drawn)).keys()
    anywhere = NEAR.model_copy(update={"group": None})
    assert near & reasons(store, run(store, drawn, repeats=(EXACT, anywhere))).keys() == {max(near)}
    only_readable = (Rule(column="pixels.contrast", least=0.0),)
    off = reasons(store, run(store, drawn, rules=only_readable, repeats=()))
    assert set(off.values()) == {"image_truncated", "not_an_image", "empty_file"}
    hashed_only = reasons(store, run(store, drawn, repeats=(anywhere.model_copy(update={"bits": 0}),)))
    assert list(hashed_only.values()).count("duplicate_perceptual") >= 2
    lively = Rule(column="pixels.contrast", least=0.2, reason="dull")
    dull = [id for id, reason in reasons(store, run(store, drawn, rules=(lively,))).items() if reason == "dull"]
    contrast = {one["id"]: one["contrast"] for one in store.open("scores").table().to_pylist()}
    assert dull
    assert {id for id, value in contrast.items() if value is not None and value < 0.2} == set(dull)


def test_other_rules_open_no_image(store: Store, drawn: ArtifactRef, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(store, drawn)
    monkeypatch.setattr(score_stage, "decode_image", lambda data: pytest.fail("decoded again"))
    monkeypatch.setattr("lightgen.storage.pixels.decode_image", lambda data: pytest.fail("decoded again"))
    monkeypatch.setattr("lightgen.storage.version.Version.samples", lambda *_: pytest.fail("a tar was read"))
    monkeypatch.setattr("lightgen.storage.version.Version.member", lambda *_: pytest.fail("a tar was read"))
    assert run(store, drawn) == first
    stricter = run(store, drawn, repeats=(NEAR.model_copy(update={"group": None}),))
    assert stricter.version != first.version
    other_threads = ScoreConfig(scorer=PixelsConfig(), workers=5)
    assert score(drawn, other_threads, Context(store)) == score(drawn, SCORES, Context(store))


def test_too_many_rejects_publish_nothing_and_cost_nothing_later(store: Store, drawn: ArtifactRef) -> None:
    with pytest.raises(TooManyRejects):
        run(store, drawn, max_reject_fraction=0.1)
    assert not store.log("kept")
    assert run(store, drawn).rows == 7


def test_the_yield_says_what_each_rule_took(store: Store, drawn: ArtifactRef) -> None:
    kept = run(store, drawn)
    steps = read_json(store, kept, "yield.json")
    # Those that have no score break the first rule, and are counted under it.
    assert [(one["step"], one["before"] - one["after"]) for one in steps] == [
        ("too_small", 4), ("blank", 2), ("duplicate_exact", 2), ("duplicate_perceptual", 1),
    ]  # fmt: skip
    assert (steps[0]["before"], steps[-1]["after"]) == (drawn.rows, kept.rows)


def test_scores_of_other_images_are_refused(store: Store, drawn: ArtifactRef) -> None:
    others = images(store, [image(f"other {i}", file_of(picture(i))) for i in range(3)])
    scores = score(others, SCORES, Context(store))
    with pytest.raises(StoreCorrupt, match="its rows are not those of images@"):
        filter_images(drawn, {"pixels": scores}, FilterConfig(), Context(store))


def test_a_rule_on_a_column_that_is_not_there_names_those_that_are(store: Store, drawn: ArtifactRef) -> None:
    with pytest.raises(ConfigError, match=r"no column 'pixels\.contarst'; did you mean 'pixels\.contrast'"):
        run(store, drawn, rules=(Rule(column="pixels.contarst", least=0.1),))
    with pytest.raises(ConfigError, match="no column 'contrast'"):
        run(store, drawn, repeats=(Repeats(column="contrast"),))


def test_rules_may_be_about_what_is_made_of_raw_answers_of_both_polarities(store: Store) -> None:
    """Another cut is seconds of arithmetic: no judge is asked again."""
    rows = [image(str(place), encode_image(noise(place, 8), "png"), f"caption {place}") for place in range(3)]
    drawn = images(store, rows)
    answers = [(0.9, 0.2), (0.9, 0.9), (0.3, 0.6)]
    ways = ("match_asked", "match_denied")
    schema = pa.schema([pa.field(name, pa.float32()) for name in ways])
    by_id = {row["id"]: dict(zip(ways, given, strict=True)) for (row, _), given in zip(rows, answers, strict=True)}
    judged = {"judge": scores(store, drawn, by_id, schema)}
    likely = {"kind": "probabilities", "questions": ["match"]}
    config = FilterConfig.model_validate(
        {
            "derive": {"judge": likely},
            "rules": [{"column": "judge.match", "least": 0.4}, {"column": "judge.match_split", "most": 0.5}],
            "repeats": [], "max_reject_fraction": 1.0,
        }
    )  # fmt: skip
    version = store.open(filter_images(drawn, judged, config, Context(store)))
    assert version.table()["id"].to_pylist() == [rows[0][0]["id"]]
    assert version.reject_reasons == {"high_judge_match_split": 1, "low_judge_match": 1}
