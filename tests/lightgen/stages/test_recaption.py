"""Stage `recaption`: a prompt for every image that is kept, taken over, journalled, and scored against."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lightgen.decisions.derive import derive
from lightgen.errors import ConfigError, SchemaMismatch, TryLater
from lightgen.scorers.vlm import VlmScorerConfig
from lightgen.seeds import content_id
from lightgen.stages.recaption import RecaptionConfig, recaption, style_of
from lightgen.stages.score import ScoreConfig, score
from lightgen.storage.pixels import encode_image
from lightgen.storage.store import Store, open_or_create
from lightgen.storage.version import Version
from lightgen.work import Context
from schemas.prompts import RECAPTIONED
from schemas.ref import ArtifactRef
from tests.lightgen.sealed import image, images, kept_of, prompts
from tests.servers.chat import ChatServer, refuse

LEVELS = range(10, 250, 12)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_or_create(str(tmp_path / "store"))


def greys(store: Store, levels: Any = LEVELS, caption: str = "came with") -> ArtifactRef:
    def file(level: int) -> bytes:
        return encode_image(np.full((16, 24, 3), level, np.uint8), "png")

    rows = [image(str(level), file(level), f"{caption} {level}") for level in levels]
    return images(store, [*rows, image("broken", b"no image", "broken")], 3)


def told(text: str, pictures: list[np.ndarray], ask: dict[str, Any]) -> str:
    """Style, brightness, and nothing for the brightest."""
    level = int(pictures[0].mean())
    return "I see nothing" if level > 230 else json.dumps({"caption": f"A {text.split()[0]} wall of the level {level}"})


def config(server: ChatServer, **settings: Any) -> RecaptionConfig:
    model = {"kind": "server", "url": server.url, "model": "m", "concurrency": 1, "patience": {"tries": 1}}
    styles = [{"name": "one", "ask": "Plain words.", "weight": 3}, {"name": "two", "ask": "Rich words."}]
    captioner = {"kind": "vlm", "model": model, "styles": styles, "tries": 2}
    return RecaptionConfig.model_validate({"captioner": captioner, **settings})


def made(
    store: Store, drawn: ArtifactRef, kept: ArtifactRef | None, settings: RecaptionConfig, seed: int = 0
) -> Version:
    return store.open(recaption(drawn, kept, settings, Context(store, seed)))


def test_every_image_has_a_prompt_of_its_own_or_a_reject_in_its_shard(store: Store) -> None:
    drawn = greys(store)
    with ChatServer(write=told) as server:
        version = made(store, drawn, None, config(server))
    source = store.open(drawn)
    assert version.table().schema == RECAPTIONED
    assert version.n_shards == source.n_shards == 3
    for shard in range(3):
        ids = set(source.table(shard)["id"].to_pylist())
        lost = [json.loads(row["row"])["image_id"] for row in version.rejects(shard).to_pylist()]
        assert {*version.table(shard)["image_id"].to_pylist(), *lost} == ids
    for row in version.table().to_pylist():
        assert row["id"] == content_id("recaption", row["image_id"])
        word = {"one": "Plain", "two": "Rich"}[row["style"]]
        level = row["original"].removeprefix("came with ")
        assert row["caption"] == f"A {word} wall of the level {level}"
        assert json.loads(row["answer"]) == {"caption": row["caption"]}
        assert (row["tokens"], row["rank"], row["novelty"]) == (7, 0, 0.0)
    assert version.reject_reasons == {"caption_no_json": 1, "not_an_image": 1}
    (refused,) = [json.loads(one["row"]) for one in version.rejects().to_pylist() if one["reason"] == "caption_no_json"]
    assert refused["answer"] == "I see nothing"


def test_only_kept_images_are_shown(store: Store) -> None:
    drawn = greys(store)
    ids = store.open(drawn).table()["id"].to_pylist()[::2]
    with ChatServer(write=told) as server:
        version = made(store, drawn, kept_of(store, drawn, ids), config(server))
        assert len(server.asked) <= 1 + len(ids) + 2
    assert version.rows + sum(version.reject_reasons.values()) == len(ids)
    assert set(version.table()["image_id"].to_pylist()) <= set(ids)
    assert [parent.kind for parent in version.parents] == ["images", "kept"]
    other = images(store, [image("x", b"", "x")], 1)
    with pytest.raises(ConfigError, match="has 3 shards"):
        recaption(drawn, kept_of(store, other, []), RecaptionConfig.model_validate({"captioner": {"kind": "given"}}),
                  Context(store))  # fmt: skip


def test_the_caption_that_an_image_came_with_can_be_its_prompt(store: Store) -> None:
    settings = RecaptionConfig.model_validate({"captioner": {"kind": "given"}, "max_tokens": 3})
    version = made(store, greys(store), None, settings)
    assert set(version.table()["style"].to_pylist()) == {"given"}
    rows = {row["original"]: row["caption"] for row in version.table().to_pylist()}
    assert rows == {original: original for original in rows}
    assert "broken" in rows, "no picture is opened"


def test_no_caption_gives_a_prompt_of_the_evaluation_away(store: Store, tmp_path: Path) -> None:
    drawn = greys(store, caption="a red bench left of level")
    lists = {"evaluation": [{"kind": "text", "path": str(tmp_path / "prompts.txt"), "source": "exam"}]}

    def told_of(prompts: str) -> Version:
        (tmp_path / "prompts.txt").write_text(prompts)
        settings = {"captioner": {"kind": "given"}, "max_reject_fraction": 1.0, **lists}
        return made(store, drawn, None, RecaptionConfig.model_validate(settings))

    leaked = told_of("A red bench, left of LEVEL 22!\n")
    assert leaked.reject_reasons["contaminated"] >= 1
    texts = {
        json.loads(row["row"])["original"] for row in leaked.rejects().to_pylist() if row["reason"] == "contaminated"
    }
    assert "a red bench left of level 22" in texts
    # Another list is another version, and no row of the first is taken over as refused.
    other = told_of("two green cats\n")
    assert other.ref.version != leaked.ref.version
    assert "contaminated" not in other.reject_reasons
    plain = RecaptionConfig.model_validate({"captioner": {"kind": "given"}})
    assert "evaluation" not in plain.content()


def test_styles_are_drawn_by_their_weights_from_the_image_alone() -> None:
    weights = {"a": 1.0, "b": 3.0}
    drawn = [style_of(f"{n}", weights, 0) for n in range(4000)]
    assert Counter(drawn)["b"] / 4000 == pytest.approx(0.75, abs=0.03)
    assert drawn == [style_of(f"{n}", weights, 0) for n in range(4000)]
    assert drawn != [style_of(f"{n}", weights, 1) for n in range(4000)]


def test_what_other_versions_hold_of_an_image_in_its_style_is_taken_over(store: Store) -> None:
    with ChatServer(write=told) as server:
        first = made(store, greys(store), None, config(server))
        before = len(server.asked)
        more = made(store, greys(store, [*LEVELS, 5], caption="now with"), None, config(server))
        assert len(server.asked) - before == 1 + 1, "a probe and one new picture"
        originals = more.table()["original"].to_pylist()
        assert all(original.startswith(("now with", "broken")) for original in originals)
        again = {row["image_id"]: row["caption"] for row in more.table().to_pylist()}
        assert {row["image_id"]: row["caption"] for row in first.table().to_pylist()}.items() <= again.items()
        assert more.reject_reasons == first.reject_reasons
        other = made(store, greys(store), None, config(server), seed=1)
        assert len(server.asked) > before + 2, "other seeds, other styles"
        assert other.ref != first.ref


def test_a_service_that_fails_costs_no_caption_that_was_paid_for(store: Store, tmp_path: Path) -> None:
    drawn = greys(store)
    with ChatServer(write=told) as server:
        server.trouble = [*[lambda *_: None] * 9, refuse(503)]
        with pytest.raises(TryLater, match="HTTP 503"):
            made(store, drawn, None, config(server))
        before = len(server.asked)
        version = made(store, drawn, None, config(server))
        assert len(server.asked) - before == 1 + len(LEVELS) - 8 + 1
        own = open_or_create(str(tmp_path / "own"))
        assert made(own, greys(own), None, config(server)).ref.fingerprint == version.ref.fingerprint


def test_images_are_scored_against_the_prompts_that_were_written_for_them(store: Store) -> None:
    drawn = greys(store)
    with ChatServer(write=told) as server:
        written = recaption(drawn, None, config(server), Context(store))
        judge = VlmScorerConfig.model_validate(
            {"questions": ["match"], "model": {"kind": "server", "url": server.url, "model": "m"}}
        )
        scored = store.open(score(drawn, ScoreConfig(scorer=judge), Context(store), written))
        texts = [ask["messages"][-1]["content"][-1]["text"] for ask in server.asked if ask.get("logprobs")]
    asked = store.open(written)
    assert scored.n_shards == 3
    for shard in range(3):
        by_image = {row["image_id"]: row for row in asked.table(shard).to_pylist()}
        rows = scored.table(shard).to_pylist()
        assert [row["id"] for row in rows] == [id for id in store.open(drawn).table(shard)["id"].to_pylist()
                                               if id in by_image]  # fmt: skip
        for row in rows:
            assert row["prompt_id"] == by_image[row["id"]]["id"]
            assert row["caption"] == by_image[row["id"]]["caption"]
    assert any("wall of the level" in text for text in texts)
    assert not any("came with" in text for text in texts)
    assert derive(scored.table(), judge.verdict)["mean"].null_count == 0
    assert [parent.kind for parent in scored.parents] == ["images", "prompts"]


def test_prompts_of_no_image_or_of_others_are_refused(store: Store) -> None:
    drawn = greys(store)
    judge = ScoreConfig.model_validate({"scorer": {"kind": "pixels"}})
    with pytest.raises(SchemaMismatch, match="written for no image"):
        score(drawn, judge, Context(store), prompts(store, ["a", "b", "c"], 3))
    with pytest.raises(ConfigError, match="1: the prompts were not written for these images"):
        score(drawn, judge, Context(store), prompts(store, ["a"], 1))
    given = RecaptionConfig.model_validate({"captioner": {"kind": "given"}})
    others = recaption(greys(store, range(3)), None, given, Context(store))
    with pytest.raises(SchemaMismatch, match="prompts of other images"):
        score(drawn, judge, Context(store), others)


def test_a_style_whose_captions_would_all_be_too_long_is_a_problem() -> None:
    given = {"captioner": {"kind": "vlm", "model": {"kind": "transformers"}}, "max_tokens": 20}
    assert [one.where for one in RecaptionConfig.model_validate(given).problems()] == ["captioner.styles.2.min_tokens"]
