"""Scorers: what they say of the committed pictures."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lightgen.scorers.base import ScorerMember
from lightgen.scorers.embedding import EmbeddingConfig
from lightgen.scorers.layout import LayoutConfig
from lightgen.scorers.mask2former import Mask2FormerConfig
from lightgen.scorers.pixels import PixelsConfig
from lightgen.scorers.scenes import ScenesDetectorConfig
from lightgen.scorers.vlm import VlmScorerConfig
from lightgen.vlm.packs import STANDARD
from tests.golden.compare import plain
from tests.golden.given import CAPTIONS, INPUTS, JUDGE, WEIGHTS, one_thread, picture, worker
from tests.golden.subject import Output, Subject, Tolerance
from tests.servers.chat import ChatServer

MARKS = dict(zip(STANDARD, (8, 9, 10, 7, 6, 5), strict=True))
WRITTEN = [
    json.dumps(MARKS), f"```json\n{json.dumps(MARKS)}\n```", "10/10", json.dumps(MARKS | {"more": 1}),
    json.dumps(MARKS | {"countable": 11}), json.dumps(MARKS | {"countable": 7.5}),
    json.dumps(MARKS)[:-1] + ', "countable": 1}',
]  # fmt: skip
OWN = {"kind": "list", "ask": [{"name": "dog", "asked": "Is {caption} a dog?", "denied": "Is {caption} no dog?"}]}


def subjects() -> list[Subject]:
    """One a member; the models of the judge have goldens of their own."""
    eyes = {name: {"model": str(WEIGHTS / "mask2former" / name)} for name in ("segmenter", "colors")}
    small = {"short_px": 64, "long_px": 107}
    near = Tolerance(1e-3, 2e-2)
    served = {"model": {"kind": "server", "url": "http://127.0.0.1:1/v1", "model": "arithmetic"}}
    judges = {
        "standard": {"model": {"kind": "transformers", "model": str(JUDGE), "dtype": "float32"}},
        "some": served | {"questions": ["sharp", "match"]}, "own": served | {"questions": OWN},
        "by caption": served | {"questions": {"kind": "file", "path": str(INPUTS / "questions.jsonl")}},
        "marks": served | {"mode": "json", "max_new_tokens": 90},
    }  # fmt: skip
    return [
        Subject("scorer pixels", (PixelsConfig,), PixelsConfig, {"plain": {}}, _scores),
        Subject("scorer scenes", (ScenesDetectorConfig,), ScenesDetectorConfig, {"plain": {}}, _scores, near),
        Subject("scorer mask2former", (Mask2FormerConfig,), Mask2FormerConfig,
                {"plain": eyes | small, "low": eyes | small | {"floor": 0.05},
                 "shorter": eyes | {"short_px": 32, "long_px": 64}}, _scores_of_varied, near),
        Subject("scorer layout", (LayoutConfig,), LayoutConfig, {"plain": {}}, _vectors, Tolerance(1e-5, 1e-5)),
        Subject("scorer embedding", (EmbeddingConfig,), EmbeddingConfig,
                {pool: {"weights": eyes["colors"], "pool": pool} for pool in ("projected", "pooled", "first", "mean")},
                _vectors, Tolerance(1e-3, 1e-4)),
        Subject("scorer vlm", (VlmScorerConfig,), VlmScorerConfig, judges, _judged, Tolerance(1e-3, 1e-4)),
    ]  # fmt: skip


def _scores_of_varied(member: ScorerMember, folder: Path) -> Output:
    """Without a picture of one colour: of it a tiny network sees rounding alone, which is another on each processor."""
    return _scores(member, folder, [name for name in CAPTIONS if name != "flat"])


def _scores(member: ScorerMember, folder: Path, names: Sequence[str] = tuple(CAPTIONS)) -> Output:
    with one_thread():
        shown = {name: picture(name) for name in names} | {"large": _large()}
        captions = [*(CAPTIONS[name] for name in names), "slopes"]
        table = member.open(worker(folder)).score(list(shown.values()), captions)
    rows = dict(zip(shown, table.to_pylist(), strict=True))
    return plain({name: row | _opened(row) for name, row in rows.items()})


def _vectors(member: ScorerMember, folder: Path) -> Output:
    with one_thread():
        table = member.open(worker(folder)).score([*map(picture, CAPTIONS), _large()], [*CAPTIONS.values(), "slopes"])
    return plain([np.frombuffer(row, "<f4").tolist() for row in table["vector"].to_pylist()])


def _large() -> np.ndarray:
    """Slopes of 72 x 90 px, which a thumbnail has to shrink."""
    y, x = np.mgrid[0:72, 0:90]
    return np.stack([x * 2 + y % 3 * 9, y * 3 + x % 5 * 4, x * y // 30], -1).astype(np.uint8)


def _opened(row: dict[str, Any]) -> dict[str, Any]:
    """JSON texts as values: their numbers have a tolerance."""
    return {name: json.loads(row[name]) for name in ("detections", "logits", "answers") if row.get(name)}


def _judged(config: VlmScorerConfig, folder: Path) -> Output:
    """What is asked, and how answers are read; a server answers by arithmetic on pictures, or in turns."""
    texts = iter(["probe", *WRITTEN])
    captions = [*CAPTIONS.values()]
    with ChatServer(write=lambda *_: next(texts)) as server, one_thread():
        if config.model.kind == "server":
            # One after another: answers come in turns.
            there = config.model.model_copy(update={"url": server.url, "concurrency": 1, "min_pixels": 1})
            config = config.model_copy(update={"model": there})
        table = config.open(worker(folder)).score([picture(name) for name in CAPTIONS], captions)
    asked = [[_text(turn["content"]) for turn in one["messages"]] for one in server.asked[1:]]
    rows = [row | _opened(row) for row in table.to_pylist()]
    return plain({"asked": asked, "rows": rows, "prompt": config.prompt_sha256})


def _text(content: Any) -> str:
    return content if isinstance(content, str) else content[-1]["text"]
