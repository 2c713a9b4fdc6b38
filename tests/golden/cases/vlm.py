"""Vision-language models: what they say of committed pictures, with committed weights or a server of arithmetic."""

from pathlib import Path
from typing import Any

import numpy as np

from lightgen.vlm.base import Asked, Draw, YesNo
from lightgen.vlm.prompts import ASKING, quoted
from lightgen.vlm.qwen import TransformersVlmConfig
from lightgen.vlm.server import ServerVlmConfig
from schemas.scores import Unscored
from tests.golden.compare import plain
from tests.golden.given import CAPTIONS, JUDGE, one_thread, picture, worker
from tests.golden.subject import Output, Subject, Tolerance
from tests.servers.chat import ChatServer, seen


def subjects() -> list[Subject]:
    """One a member."""
    here = {"kind": "transformers", "model": str(JUDGE), "dtype": "float32"}
    models: dict[str, dict[str, Any]] = {
        "plain": here, "small pictures": here | {"max_pixels": 900, "min_pixels": 300},
        "bfloat16": here | {"dtype": "bfloat16"}, "float16": here | {"dtype": "float16"},
    }  # fmt: skip
    there = {"kind": "server", "url": "http://127.0.0.1:1/v1", "model": "arithmetic"}
    servers: dict[str, dict[str, Any]] = {
        "plain": there | {"min_pixels": 1}, "few": there | {"top_logprobs": 3}, "small": there | {"max_pixels": 3200},
        "jpg": there | {"format": "jpg", "quality": 40}, "webp": there | {"format": "webp", "served": "2026-11"},
    }  # fmt: skip
    halves = {name: Tolerance(5e-2, 5e-2) for name in ("bfloat16", "float16")}
    return [
        Subject("vlm transformers", (TransformersVlmConfig,), TransformersVlmConfig, models, _here,
                Tolerance(1e-3, 1e-3), halves),
        Subject("vlm server", (ServerVlmConfig,), ServerVlmConfig, servers, _there, Tolerance(2e-2, 2e-2)),
    ]  # fmt: skip


def _asked() -> list[Asked]:
    pairs = [(picture(name), caption) for name, caption in CAPTIONS.items()]
    asked = [Asked((one,), f"Caption: {quoted(caption + chr(60))} Is it so?", ASKING) for one, caption in pairs]
    return [*asked, Asked((pairs[0][0], pairs[5][0]), "Which of both?")]


def _here(config: TransformersVlmConfig, folder: Path) -> Output:
    with one_thread():
        model = config.open(worker(folder))
        said = [_plain(one) for one in model.yes_no(_asked())]
        if config.dtype != "float32":
            return plain(said)  # rounding of halves may turn what it writes
        texts, seeds = model.write(_asked()[:3], 8), (1, 2, 3)
        return plain({"said": said, "written": texts, "drawn": model.write(_asked()[:3], 8, Draw(1.0, seeds))})


def _there(config: ServerVlmConfig, folder: Path) -> Output:
    """What is sent is seen in what comes back: the server answers by the brightness of the pictures."""
    with ChatServer(write=lambda text, pictures, _: f"{text} {[one.shape for one in pictures]}") as server:
        model = config.model_copy(update={"url": server.url, "concurrency": 1}).open(worker(folder))
        said = [_plain(one) for one in model.yes_no(_asked())]
        texts = model.write(_asked(), 8)
    bright = [float(np.mean([one.mean() for one in seen(ask)[1]])) for ask in server.asked]
    return plain({"said": said, "written": texts, "bright": bright, "sent": [_sent(ask) for ask in server.asked[:2]]})


def _sent(ask: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in ask.items() if name != "messages"}


def _plain(one: YesNo | Unscored) -> dict[str, Any]:
    return vars(one)
