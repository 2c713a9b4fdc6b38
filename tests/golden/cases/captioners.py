"""Captioners, and the stage that asks them."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from lightgen.captioners.base import CaptionerMember, Rules, Shown
from lightgen.captioners.given import GivenCaptionerConfig
from lightgen.captioners.vlm import VlmCaptionerConfig
from lightgen.corpora.cleaning import Limits
from lightgen.stages import recaption
from tests.golden.compare import plain
from tests.golden.given import CAPTIONS, FLUX, context, described, picture, sealed_images, worker
from tests.golden.subject import Output, Subject
from tests.lightgen.sealed import kept_of
from tests.servers.chat import Ask, ChatServer

SERVED = {"kind": "server", "url": "http://127.0.0.1:1/v1", "model": "arithmetic", "concurrency": 1}
OWN = [
    {"name": "one", "ask": "Say it in one line.", "weight": 2, "min_tokens": 2, "max_tokens": 9},
    {"name": "two", "ask": "Say more.", "min_tokens": 6},
]
WRITTEN = (
    '{"caption": "A wide road under the sky"}', "Sure, a dog.", "I am sorry", '{"caption": "ein Hund vor dem Haus"}',
    '{"caption": "A dog on a red rug in a room with many other things on the floor"}',
    '```json\n{"caption": "A caf\u00e9 &amp; bar"}\n```',
)  # fmt: skip


def subjects() -> list[Subject]:
    """One a member, and the stage."""
    base: dict[str, Any] = {"kind": "vlm", "model": SERVED}
    writers: dict[str, dict[str, Any]] = {
        "standard": base | {"tries": 1}, "own": base | {"styles": OWN},
        "any language": base | {"styles": OWN, "language": "any", "temperature": 1.2, "max_new_tokens": 64},
    }  # fmt: skip
    given: dict[str, Any] = {"captioner": {"kind": "given"}, "max_reject_fraction": 1.0}
    stages: dict[str, dict[str, Any]] = {
        "given": given, "short": given | {"max_tokens": 4, "max_characters": 30, "min_characters": 13},
        "vlm": given | {"captioner": base | {"styles": OWN}},
        "evaluation": given | {"evaluation": [{"kind": "scenes", "split": "train", "count": 40}]},
        "strict": given | {
            "evaluation": [{"kind": "scenes", "split": "train", "count": 8}],
            "contamination": {"containment": 0.5, "words": 2},
        },
        "no containment": given | {"contamination": {"containment": None, "similarity": 0.5}},
        "tokenizer": given | {"tokenizer": {"model": str(FLUX), "subfolder": "tokenizer_2"}},
    }  # fmt: skip
    return [
        Subject("captioner given", (GivenCaptionerConfig,), GivenCaptionerConfig, {"plain": {}}, _captions),
        Subject("captioner vlm", (VlmCaptionerConfig,), VlmCaptionerConfig, writers, _captions),
        Subject("stage recaption", (recaption,), recaption.RecaptionConfig, stages, _recaption),
    ]


def _write(text: str, pictures: list[np.ndarray], ask: Ask) -> str:
    """One of the answers, by the picture, the style and the try."""
    return WRITTEN[(int(pictures[0].mean()) + len(text)) % len(WRITTEN)]


def _there(member: Any, server: ChatServer) -> Any:
    if not isinstance(member, VlmCaptionerConfig):
        return member
    return member.model_copy(update={"model": member.model.model_copy(update={"url": server.url})})


def _captions(member: CaptionerMember, folder: Path) -> Output:
    styles = list(member.styles_by_weight)
    shown = [
        Shown(picture(name), f"{caption} &amp; more", styles[place % len(styles)], place)
        for place, (name, caption) in enumerate(CAPTIONS.items())
    ]
    with ChatServer(write=_write) as server:
        rules = Rules(Limits(), lambda text: len(text.split()))
        found = _there(member, server).open(worker(folder), rules).write(shown)
    told = [[*_texts(ask), ask["temperature"], ask.get("seed")] for ask in server.asked[1:]]
    return plain({"written": [vars(one) for one in found], "told": told})


def _texts(ask: Ask) -> list[str]:
    contents = [turn["content"] for turn in ask["messages"]]
    return [one if isinstance(one, str) else one[-1]["text"] for one in contents]


def _recaption(config: recaption.RecaptionConfig, folder: Path) -> Output:
    works = context(folder)
    images = sealed_images(works.store)
    ids = works.store.open(images).table()["id"].to_pylist()
    with ChatServer(write=_write) as server:
        asked = config.model_copy(update={"captioner": _there(config.captioner, server)})
        ref = recaption.recaption(images, kept_of(works.store, images, ids[1:]), asked, works)
    return json.loads(json.dumps(described(works.store, ref)))
