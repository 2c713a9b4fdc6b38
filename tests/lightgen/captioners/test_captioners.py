"""Captioners: what is a caption, what is asked again, and the model's own caption of a picture by arithmetic."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from lightgen.captioners.base import Rules, Shown, Written
from lightgen.captioners.checking import checked, read_caption
from lightgen.captioners.config import CaptionerConfig
from lightgen.captioners.given import GivenCaptioner
from lightgen.captioners.vlm import STYLES, SYSTEM, Style, VlmCaptioner, VlmCaptionerConfig
from lightgen.corpora.cleaning import Limits
from lightgen.http import Timing
from lightgen.storage.store import open_or_create
from lightgen.vlm.server import ServerVlm
from lightgen.work import Worker
from schemas.scores import Unscored
from tests.servers.chat import ChatServer, refuse

UNION: TypeAdapter = TypeAdapter(CaptionerConfig)
RULES = Rules(Limits(), lambda text: len(text.split()))
GOOD = "A grey wall fills the picture from the left to the right side"


def grey(level: int) -> np.ndarray:
    return np.full((40, 60, 3), level, np.uint8)


def shown(level: int, style: str = "any", seed: int = 7) -> Shown:
    return Shown(grey(level), "what it came with", style, seed)


def captioner(server: ChatServer, **settings: Any) -> VlmCaptioner:
    model = {"kind": "server", "url": server.url, "model": "m", "concurrency": 1, "patience": {"tries": 1}}
    style = {"name": "any", "ask": "Describe the scene.", "min_tokens": 3, "max_tokens": 40}
    config = UNION.validate_python({"kind": "vlm", "model": model, "styles": [style], **settings})
    assert config.model.kind == "server"
    return VlmCaptioner(config, ServerVlm(config.model, Timing(sleep=lambda _: None)), RULES)


def in_turn(*texts: str | None) -> Any:
    given = iter([json.dumps({"caption": "probe"}), *texts])
    return lambda *_: next(given, texts[-1])


# --- what is a caption ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "caption"),
    [
        ('{"caption": "a dog"}', "a dog"),
        ('```json\n{"Caption": "a dog"}\n```', "a dog"),
        ('Here it is: {"caption": "ein Hund \\u732b",}', "ein Hund 猫"),
    ],
)
def test_the_text_of_the_object_is_read(answer: str, caption: str) -> None:
    assert read_caption(answer) == caption


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("a dog", "caption_no_json"),
        ('{"caption": "a dog"', "caption_no_json"),
        ('{"caption": "a"}{"caption": "b"}', "caption_no_json"),
        ('{"caption": ["a dog"]}', "caption_other_json"),
        ('{"description": "a dog"}', "caption_other_json"),
        ('{"caption": "a dog", "style": "x"}', "caption_other_json"),
    ],
)
def test_what_is_no_such_object_is_refused(answer: str, reason: str) -> None:
    found = read_caption(answer)
    assert isinstance(found, Unscored)
    assert found.reason == reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (GOOD, ""),
        ("A café with a naïve painting by the door", ""),
        ("Two dogs", "caption_too_short"),
        ("a dog " * 20, "caption_too_long"),
        ("", "caption_empty"),
        ("I'm sorry, but I can't help with that picture", "caption_refusal"),
        ("As an AI language model, I see a dog on a table", "caption_refusal"),
        ("I cannot see any image here in the chat", "caption_refusal"),
        ("Unable to view the image at this time", "caption_refusal"),
        ("A sign that says sorry, we cannot serve dogs here", ""),
        ("Name the objects there are and where they stand", "caption_echo"),
        ("一只狗在桌子上 坐着 看着 窗外", "caption_language"),
        ("ein Hund sitzt vor dem Haus neben einem alten Fahrrad", "caption_language"),
        ("ein Hund vor dem Haus", "caption_language"),
        ("un chien sur une table dans la cuisine", "caption_language"),
        ("a dog eats tagliatelle con funghi at a table", ""),
        ("fotografía abstracta moderna colorida grande hermosa barata nueva", "caption_language"),
        ("собака сидит возле дома", "caption_language"),
        ("1 2 3 4", "caption_language"),
    ],
)
def test_length_excuses_echoes_and_other_languages_are_told_apart(text: str, reason: str) -> None:
    told = "Name the objects there are and where they stand. Answer in JSON."
    found = checked(text, "raw", RULES, (3, 20), told, "en")
    assert found.reason == reason
    assert found.answer == "raw"
    assert (found.caption == "") is bool(reason)


def test_every_language_passes_where_any_is_allowed() -> None:
    assert checked("一只狗 在 桌子上", "", RULES, (1, 9), "", "any").caption == "一只狗 在 桌子上"


def test_the_given_caption_is_repaired_or_refused() -> None:
    texts = ["a &amp; b  dog", "", "x" * 3000]
    found = GivenCaptioner(RULES).write([Shown(None, text, "given", 0) for text in texts])
    assert found[0] == Written("a & b dog", 4)
    assert [one.reason for one in found] == ["", "caption_empty", "caption_too_long"]


# --- a model that writes ----------------------------------------------------------------------------------------------


def test_a_caption_hangs_on_the_picture_and_its_style() -> None:
    def write(text: str, pictures: list[np.ndarray], ask: dict[str, Any]) -> str:
        return json.dumps({"caption": f"A wall of level {int(pictures[0].mean())} and {text.split()[0]} it is"})

    styles = [{"name": "one", "ask": "Alpha please."}, {"name": "two", "ask": "Beta please."}]
    with ChatServer(write=write) as server:
        found = captioner(server, styles=styles).write([shown(10, "one"), shown(99, "two")])
    assert [one.caption for one in found] == ["A wall of level 10 and Alpha it is", "A wall of level 99 and Beta it is"]
    assert json.loads(found[0].answer) == {"caption": found[0].caption}
    assert found[0].tokens == 9
    ask = server.asked[1]
    assert ask["messages"][0]["content"] == SYSTEM
    assert "what it came with" not in json.dumps(ask)
    assert (ask["temperature"], ask["max_completion_tokens"]) == (0.0, 256)


def test_what_is_no_caption_is_asked_for_again_more_strictly_from_another_seed() -> None:
    good = json.dumps({"caption": GOOD})
    with ChatServer(write=in_turn("Sure! A dog.", good, '{"caption": "sorry"}', good)) as server:
        first, second = captioner(server).write([shown(10), shown(20, seed=8)])
        asks = server.asked[1:]
    assert (first.caption, second.caption) == (GOOD, GOOD)
    assert [ask["temperature"] for ask in asks] == [0.0, 0.0, 0.7, 0.7]
    assert [ask.get("seed") for ask in asks[:2]] == [None, None]
    assert asks[2]["seed"] != asks[3]["seed"]
    assert "must begin with" in asks[2]["messages"][1]["content"][-1]["text"]
    assert "must begin with" not in asks[0]["messages"][1]["content"][-1]["text"]


def test_after_the_last_try_it_is_refused_with_what_was_said() -> None:
    with ChatServer(write=in_turn("no", "never", '{"caption": "I cannot see it"}')) as server:
        (found,) = captioner(server).write([shown(10)])
        assert len(server.asked) == 1 + 3
    assert (found.reason, found.answer, found.caption) == ("caption_refusal", '{"caption": "I cannot see it"}', "")


def test_a_service_that_fails_is_not_asked_more_strictly() -> None:
    with ChatServer(write=in_turn(json.dumps({"caption": GOOD}))) as server:
        model = captioner(server)
        _ = model.model._answers  # type: ignore[attr-defined]
        server.trouble = [lambda *_: None, refuse(503), refuse(503)]
        found = model.write([shown(1), shown(2), shown(3)])
        assert len(server.asked) == 3
    assert [one.reason for one in found] == ["", "try_later", "try_later"]


def test_styles_have_names_weights_and_lengths_that_meet() -> None:
    assert [style.name for style in STYLES] == ["short", "plain", "dense"]
    assert sum(style.weight for style in STYLES) == pytest.approx(1)
    with pytest.raises(ValidationError, match="min_tokens 9 > max_tokens 8"):
        Style(name="a", ask="x", min_tokens=9, max_tokens=8)
    with pytest.raises(ValidationError, match="a name of its own"):
        VlmCaptionerConfig(styles=(STYLES[0], STYLES[0]))
    assert VlmCaptionerConfig.model_fields["kind"].default == "vlm"


def test_a_rehearsal_writes_captions_as_the_picture_turns_it(tmp_path: Path) -> None:
    config = UNION.validate_python({"kind": "vlm", "model": {"kind": "transformers"}}).rehearse(tmp_path / "r")
    worker = Worker(open_or_create(str(tmp_path / "store")))
    pictures = [np.random.default_rng(n).integers(0, 256, (48, 64, 3), dtype=np.uint8) for n in range(6)]
    pairs = zip(pictures, ["short", "plain", "dense"] * 2, strict=True)
    found = config.open(worker, RULES).write([Shown(one, "x", style, 1) for one, style in pairs])
    assert [one.reason for one in found] == [""] * 6, found
    assert len({one.caption for one in found}) > 1
