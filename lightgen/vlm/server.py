"""Vision-language model `server`: any server that speaks OpenAI's chat, with `logprobs` (vLLM, SGLang, OpenAI, ...).

Pictures travel as data URLs, within the pixel bounds. The probability of yes is summed over its spellings among the
likeliest tokens. An answer of which no spelling is among them gets the most that it can be: the least probability that
the server told, or all that is left over, whichever is less; the other side then says `bound`.
"""

import base64
import json
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import numpy as np
from PIL import Image
from pydantic import Field, model_validator

from lightgen.config import RUN
from lightgen.errors import LightgenError, ServiceRefused, SpendLimit, TryLater
from lightgen.http import Service, Spend, Timing, as_unscored, unsettled
from lightgen.services import ServiceConfig
from lightgen.storage.pixels import ImageFormat, Pixels, encode_image
from lightgen.vlm.base import NO, REHEARSED, YES, Asked, Draw, VlmMember, YesNo, spells
from lightgen.work import Worker
from schemas.scores import Unscored

CHAT = "/chat/completions"
TOKENS = 4  # of an answer of one word: blank ones may come first
ABSENT = -9000.0  # -9999 stands for a token that is not among the likeliest
ROW_ONLY = {400, 413, 415, 422}  # the request is at fault, and the next may be fine
MEDIA = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp"}
Made = TypeVar("Made")


class ServerVlmConfig(ServiceConfig, VlmMember):
    """Which model of which server answers, and how pictures are sent."""

    kind: Literal["server"] = "server"
    top_logprobs: int = Field(default=20, ge=2, description="likeliest tokens that it tells; a server may allow fewer")
    min_pixels: int = Field(default=56 * 56, ge=1, description="a smaller picture is enlarged")
    max_pixels: int = Field(default=1280 * 28 * 28, ge=1, description="a larger picture is shrunk")
    format: ImageFormat = Field(default="png", description="of the pictures that are sent; png is exact")
    quality: int = Field(default=95, ge=1, le=100, description="of jpg and webp")
    limit_key: Literal["max_completion_tokens", "max_tokens"] = Field(
        default="max_completion_tokens", description="what the server calls the most tokens", json_schema_extra=RUN
    )

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if self.min_pixels > self.max_pixels:
            raise ValueError(f"min_pixels {self.min_pixels} > max_pixels {self.max_pixels}")
        return self

    @property
    def together(self) -> int:
        """See `VlmMember.together`."""
        return 8 * self.concurrency

    def rehearse(self, folder: Path) -> Any:
        """See `Config.rehearse`: no server is asked, nor paid; a tiny model on this machine answers."""
        return self.tiny(folder, REHEARSED)

    def tiny(self, folder: Path, answers: Sequence[str], prompt: str = "") -> Any:
        """A tiny random model in `folder` that gives one of `answers`, in the place of the server."""
        from lightgen.vlm.qwen import TransformersVlmConfig

        bounds: dict[str, Any] = {"min_pixels": self.min_pixels, "max_pixels": self.max_pixels}
        return TransformersVlmConfig(dtype="float32", **bounds).tiny(folder, answers, prompt)

    def open(self, worker: Worker) -> "ServerVlm":
        """See `VlmMember.open`. Raises ConfigError where there is no key."""
        return ServerVlm(self)


class ServerVlm:
    """See the module."""

    def __init__(self, config: ServerVlmConfig, timing: Timing | None = None) -> None:
        self.config, self.spend = config, Spend(config.prices)
        self.service = Service(config.url, config.key_env, config.patience, self.spend, timing)

    def yes_no(self, asked: Sequence[Asked]) -> list[YesNo | Unscored]:
        """See `VisionLanguageModel.yes_no`. Raises ServiceRefused where the server answers no question like these."""
        told = {"logprobs": True, "top_logprobs": self.config.top_logprobs, "temperature": 0}
        if asked:
            _ = self._tells_logprobs
        return self._each(asked, lambda one, _: read_yes_no(self._chat(one, TOKENS, told)))

    def write(self, asked: Sequence[Asked], max_tokens: int, draw: Draw = Draw()) -> list[str | Unscored]:
        """See `VisionLanguageModel.write`. Raises ServiceRefused where the server answers no question like these."""
        if asked:
            _ = self._answers

        def one(question: Asked, place: int) -> str | Unscored:
            drawn = {"seed": draw.seeds[place] % 2**31} if draw.temperature else {}
            return read_text(self._chat(question, max_tokens, {"temperature": draw.temperature, **drawn}))

        return self._each(asked, one)

    @cached_property
    def _answers(self) -> bool:
        """Asked once: a server that can do nothing with pictures says so before thousands of rows do."""
        self._chat(_probe(), TOKENS, {"temperature": 0})
        return True

    @cached_property
    def _tells_logprobs(self) -> bool:
        told = {"logprobs": True, "top_logprobs": self.config.top_logprobs, "temperature": 0}
        found = self._chat(_probe(), TOKENS, told)
        if not _entries(found):
            raise ServiceRefused(f"{self.service.host}: {self.config.model} answers without logprobs; take mode: json")
        return True

    def _chat(self, asked: Asked, max_tokens: int, more: dict[str, Any]) -> dict[str, Any]:
        body = {"model": self.config.model, "messages": self._messages(asked), self.config.limit_key: max_tokens}
        return self.service.post(CHAT, body | more)

    def _messages(self, asked: Asked) -> list[dict[str, Any]]:
        parts = [{"type": "image_url", "image_url": {"url": self._data_url(one)}} for one in asked.pictures]
        system = [{"role": "system", "content": asked.system}] if asked.system else []
        return [*system, {"role": "user", "content": [*parts, {"type": "text", "text": asked.text}]}]

    def _data_url(self, picture: Pixels) -> str:
        bounded = within(picture, self.config.min_pixels, self.config.max_pixels)
        data = encode_image(bounded, self.config.format, self.config.quality)
        return f"data:{MEDIA[self.config.format]};base64,{base64.b64encode(data).decode()}"

    def _each(self, asked: Sequence[Asked], ask: Callable[[Asked, int], Made | Unscored]) -> list[Made | Unscored]:
        """Answers in order, some at once. After an error that ends the work no further question is sent."""
        ended: list[Unscored] = []

        def one(pair: tuple[int, Asked]) -> Made | Unscored:
            if ended:
                return ended[0]
            try:
                return ask(pair[1], pair[0])
            except (TryLater, SpendLimit, ServiceRefused) as error:
                found = _refused(error)
                ended.extend([found] if unsettled(found.reason, "") else [])
                return found

        with ThreadPoolExecutor(self.config.concurrency) as pool:
            return list(pool.map(one, enumerate(asked)))


def within(picture: Pixels, least: int, most: int) -> Pixels:
    """The picture with at least `least` and at most `most` pixels, sides in the same ratio."""
    height, width = picture.shape[:2]
    if least <= height * width <= most:
        return picture
    wanted = most if height * width > most else least
    scale, rounded = math.sqrt(wanted / (height * width)), math.floor if wanted == most else math.ceil
    size = (max(1, rounded(width * scale)), max(1, rounded(height * scale)))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))


def read_yes_no(answer: dict[str, Any]) -> YesNo | Unscored:
    """The probabilities of yes and no at the first token that is not blank."""
    entries = _entries(answer)
    if not entries:
        return Unscored("vlm_no_logprobs", "an answer without logprobs")
    for entry in entries:
        found = _likeliest(entry)
        if isinstance(found, Unscored):
            return found
        if _text(entry).strip() or entry is entries[-1]:
            return _of(found)
    return Unscored("vlm_no_answer", "nothing but blanks")


def read_text(answer: dict[str, Any]) -> str | Unscored:
    """What the model wrote."""
    text = (_first(answer).get("message") or {}).get("content")
    return text if isinstance(text, str) and text.strip() else Unscored("vlm_no_text", "an answer without text")


def _of(likeliest: list[tuple[str, float]]) -> YesNo | Unscored:
    sides = {side: [logprob for text, logprob in likeliest if spells(text) == side] for side in (YES, NO)}
    if not any(sides.values()):
        shown = ", ".join(json.dumps(text) for text, _ in likeliest[:8])
        return Unscored("vlm_no_answer", f"neither yes nor no is among the likeliest: {shown}"[:300])
    absent = next((side for side, found in sides.items() if not found), "")
    if absent:
        rest = 1.0 - sum(math.exp(logprob) for _, logprob in likeliest)
        sides[absent] = [min(min(logprob for _, logprob in likeliest), math.log(max(rest, 1e-9)))]
    sums = {side: min(0.0, math.log(sum(map(math.exp, found)))) for side, found in sides.items()}
    return YesNo(sums[YES], sums[NO], absent)


def _likeliest(entry: dict[str, Any]) -> list[tuple[str, float]] | Unscored:
    """Texts and log-probabilities of a place, the likeliest first; each text once a token."""
    found: dict[str, tuple[str, float]] = {}
    for one in [entry, *(entry.get("top_logprobs") or [])]:
        logprob = one.get("logprob")
        if not isinstance(logprob, int | float) or not ABSENT < logprob <= 1e-3:
            continue
        if str(one.get("token", "")).startswith("token_id:") and not one.get("bytes"):
            return Unscored("vlm_token_ids", "the server tells tokens by number, not as text: change its settings")
        found[str(one.get("token"))] = (_text(one), min(0.0, float(logprob)))
    if not found:
        return Unscored("vlm_no_logprobs", "no token has a probability")
    return sorted(found.values(), key=lambda pair: -pair[1])


def _text(one: dict[str, Any]) -> str:
    """A token's text: by its bytes where they are told, as some servers number their tokens."""
    data = one.get("bytes")
    if isinstance(data, list) and data and all(isinstance(byte, int) and 0 <= byte < 256 for byte in data):
        return bytes(data).decode("utf-8", "replace")
    return str(one.get("token", ""))


def _entries(answer: dict[str, Any]) -> list[dict[str, Any]]:
    logprobs = _first(answer).get("logprobs")
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    return [one for one in content if isinstance(one, dict)] if isinstance(content, list) else []


def _first(answer: dict[str, Any]) -> dict[str, Any]:
    choices = answer.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, dict) else {}


def _refused(error: LightgenError) -> Unscored:
    """Of a request that is itself at fault the row is without an answer, and the next may have one."""
    if isinstance(error, ServiceRefused) and error.status in ROW_ONLY:
        return Unscored("vlm_refused", str(error))
    return as_unscored(error)


def _probe() -> Asked:
    slope = np.broadcast_to(np.arange(64, dtype=np.uint8)[None, :, None] * 4, (64, 64, 3))
    return Asked((np.ascontiguousarray(slope),), "Is this a picture? Answer Yes or No.")
