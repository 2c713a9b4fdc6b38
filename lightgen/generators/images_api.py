"""Generator `images_api`: any service that speaks OpenAI's images API (DALL-E 3, GPT image models, local servers).

One request buys one image. It is asked for in the offered size that keeps most of its pixels, scaled down until it just
covers the sides wanted, and its centre is taken; an answer that is smaller than wanted is a failure, and is not
enlarged. What the service refuses for its content is a failure with the service's words. Without `seed_key` the service
knows no seeds: to draw again gives another image, so what was bought is kept and lent, never asked for again.
"""

import asyncio
import base64
import binascii
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit

import numpy as np
from PIL import Image
from pydantic import Field, field_validator

from lightgen.config import RUN
from lightgen.encoders.crop import crop_to
from lightgen.errors import ConfigError, ServiceRefused, SpendLimit, TryLater
from lightgen.fetch import loopback
from lightgen.fetch.safe import Refused, parse
from lightgen.fetch.states import Failed
from lightgen.fetch.web import Manners, Memory, Web
from lightgen.generators.base import Drawn, Failure, GeneratorMember, Retry, Revised, Stop
from lightgen.http import Patience, Prices, Service, Spend, Timing
from lightgen.problems import Problem
from lightgen.services import ServiceConfig
from lightgen.storage.pixels import BadImage, decode_image
from lightgen.work import Work, Worker

PATH = "/images/generations"
SIZE = re.compile(r"([1-9][0-9]{1,4})x([1-9][0-9]{1,4})\Z")
# Types and codes by which services say that they do not want to draw a prompt.
REFUSALS = {
    "content_policy_violation", "moderation_blocked", "content_filter", "image_generation_user_error",
    "contentFilter", "ResponsibleAIPolicyViolation", "safety_violation",
}  # fmt: skip
ROW_ONLY = {400, 413, 415, 422}  # the request is at fault, and the next may be fine
ANSWERS = 2  # that are bought of a prompt, where the first holds no picture
DOWNLOAD_WAIT_S = 1.0


class ImagesApiConfig(ServiceConfig, GeneratorMember):
    """Which model of which service draws, in which sizes."""

    kind: Literal["images_api"] = "images_api"
    sizes: tuple[str, ...] = Field(
        default=("1024x1024",), min_length=1, description="width x height in px that the service offers"
    )
    options: dict[str, str | int | float | bool] = Field(
        default={}, description="further fields of each request, such as `quality: hd` or `style: natural`"
    )
    seed_key: str | None = Field(
        default=None, description="field in which the service takes a seed; null: it takes none"
    )
    response_format: Literal["b64_json", "url"] | None = Field(
        default=None,
        description="what is asked for; null: not said, as GPT image models want it",
        json_schema_extra=RUN,
    )
    allow_private: tuple[str, ...] = Field(
        default=(), description="host:port from which images may be fetched by URL though it is not public",
        json_schema_extra=RUN,
    )  # fmt: skip

    @field_validator("sizes")
    @classmethod
    def _sizes(cls, sizes: tuple[str, ...]) -> tuple[str, ...]:
        wrong = [size for size in sizes if not SIZE.match(size)]
        if wrong:
            raise ValueError(f"{wrong[0]!r} is no size such as 1024x1024, width x height")
        return sizes

    @field_validator("options")
    @classmethod
    def _further(cls, options: dict[str, Any]) -> dict[str, Any]:
        own = sorted({"model", "prompt", "n", "size", "response_format"} & options.keys())
        if own:
            raise ValueError(f"{own[0]} is decided by other settings")
        return options

    @property
    def journals(self) -> bool:
        """See `GeneratorMember.journals`."""
        return True

    @property
    def revises(self) -> bool:
        """See `GeneratorMember.revises`: DALL-E 3 does."""
        return True

    @property
    def usd_per_image(self) -> float:
        """See `GeneratorMember.usd_per_image`; of services that ask for tokens it is not known before."""
        return self.prices.usd_per_answer

    def problems(self) -> Iterator[Problem]:
        """See `ServiceConfig.problems`; also a key that travels in the clear, and a service that knows no seeds."""
        yield from super().problems()
        parts = urlsplit(self.url)
        if self.key_env is not None and parts.scheme == "http" and parts.hostname not in ("127.0.0.1", "localhost"):
            yield Problem("recipe", "url", f"the key travels to {parts.hostname} in the clear", "take https", "remark")
        if self.seed_key is None:
            what = "the service knows no seeds: a lost image cannot be drawn again, only another one can be bought"
            yield Problem("recipe", "seed_key", what, "name the field, where the service has one", "remark")

    def cannot_draw(self, height_px: int, width_px: int) -> tuple[str, str]:
        """See `GeneratorMember.cannot_draw`: sides that no offered size covers."""
        if self.asked_size(height_px, width_px):
            return "", ""
        what = f"has no size that covers {width_px} x {height_px} px: sizes are {', '.join(self.sizes)}"
        return what, "take a smaller one, or name all sizes that the service offers"

    def asked_size(self, height_px: int, width_px: int) -> str:
        """The offered size whose crop to these sides keeps most, the smallest of equals; "" where none covers."""
        covering = {size: sides(size) for size in self.sizes if _covers(*sides(size), height_px, width_px)}
        return min(covering, key=lambda size: _loss(*covering[size], height_px, width_px), default="")

    def rehearse(self, folder: Path) -> Self:
        """See `Config.rehearse`: nobody is paid; a server of this process draws."""
        url = f"http://{loopback.shared().address}/v1"
        free = {"url": url, "key_env": None, "prices": Prices(), "response_format": None, "patience": Patience()}
        return self.model_copy(update=free)

    def open(self, work: Work, worker: Worker) -> "ImagesApiGenerator":
        """See `GeneratorMember.open`. Raises ConfigError where there is no key."""
        return ImagesApiGenerator(self)


def sides(size: str) -> tuple[int, int]:
    """Height and width in px of a size as the API writes it, width first."""
    width, height = size.split("x")
    return int(height), int(width)


def _covers(height: int, width: int, height_px: int, width_px: int) -> bool:
    return height >= height_px and width >= width_px


def _loss(height: int, width: int, height_px: int, width_px: int) -> tuple[float, int]:
    """Share of an image that a crop to these sides loses, and its pixels."""
    scale = min(height / height_px, width / width_px)
    return round(1 - scale * height_px * scale * width_px / (height * width), 6), height * width


class ImagesApiGenerator:
    """See the module."""

    def __init__(self, config: ImagesApiConfig, timing: Timing | None = None) -> None:
        self.config, self.timing = config, timing or Timing()
        self.spend = Spend(config.prices)
        self.service = Service(config.url, config.key_env, config.patience, self.spend, self.timing)
        self._drew = False

    def generate(self, captions: Sequence[str], seeds: Sequence[int], height_px: int, width_px: int) -> list[Drawn]:
        """See `Generator.generate`: some at once. After an error that ends the work no further request is sent."""
        size, ended = self.config.asked_size(height_px, width_px), list[Stop]()
        if not size:
            raise ConfigError(f"generate: images_api {self.config.cannot_draw(height_px, width_px)[0]}")

        def one(caption: str, seed: int) -> Drawn | ServiceRefused:
            if ended:
                return ended[0]
            try:
                return self._drawn(self._body(caption, seed, size), height_px, width_px)
            except (TryLater, SpendLimit, ServiceRefused) as error:
                refused = _of_its_content(error)
                if isinstance(refused, Stop):
                    ended.append(refused)
                return refused

        with ThreadPoolExecutor(self.config.concurrency) as pool:
            made = list(pool.map(one, captions, seeds))
        return self._judged(made)

    def _judged(self, made: Sequence[Drawn | ServiceRefused]) -> list[Drawn]:
        """A refused request is a failure of its row where the service draws others; else no request can be right."""
        self._drew |= any(isinstance(one, np.ndarray | Revised) for one in made)
        return [self._row(one) if isinstance(one, ServiceRefused) else one for one in made]

    def _row(self, error: ServiceRefused) -> Drawn:
        return Failure("request_refused", str(error)) if self._drew else Stop(error)

    def _body(self, caption: str, seed: int, size: str) -> dict[str, Any]:
        config = self.config
        body: dict[str, Any] = {"model": config.model, "prompt": caption, "n": 1, "size": size, **config.options}
        if config.response_format is not None:
            body["response_format"] = config.response_format
        if config.seed_key is not None:
            body[config.seed_key] = seed % 2**31
        return body

    def _drawn(self, body: dict[str, Any], height_px: int, width_px: int) -> Drawn:
        """The picture, cropped; an answer without one is bought once more. Raises the errors of `Service.post`."""
        for attempt in range(ANSWERS):
            found = self._answered(self.service.post(PATH, body))
            if not (isinstance(found, Failure) and attempt + 1 < ANSWERS):
                break
        if isinstance(found, Failure | Retry):
            return found
        pixels, revised = found
        height, width = pixels.shape[:2]
        if not _covers(height, width, height_px, width_px):
            what = f"the service gave {width} x {height} px where {body['size']} was asked for"
            return Failure("image_size", f"{what}, less than {width_px} x {height_px}")
        cropped = np.asarray(crop_to(Image.fromarray(pixels), height_px, width_px))
        return Revised(cropped, revised) if revised and revised != body["prompt"] else cropped

    def _answered(self, answer: dict[str, Any]) -> tuple[np.ndarray, str] | Failure | Retry:
        """Pixels and revised prompt of an answer."""
        data = answer.get("data")
        first = data[0] if isinstance(data, list) and data and isinstance(data[0], dict) else {}
        file = self._file(first)
        if not isinstance(file, bytes):
            return file
        pixels = decode_image(file)
        if isinstance(pixels, BadImage):
            return Failure(pixels.reason, f"{self.service.host}: {pixels.detail}")
        revised = first.get("revised_prompt")
        return pixels, revised if isinstance(revised, str) else ""

    def _file(self, entry: dict[str, Any]) -> bytes | Failure | Retry:
        coded, url = entry.get("b64_json"), entry.get("url")
        if isinstance(coded, str) and coded:
            try:
                return base64.b64decode(coded.rpartition("base64,")[2], validate=True)
            except binascii.Error as error:
                return Failure("base64", f"{self.service.host}: {error}")
        if isinstance(url, str) and url:
            return self._fetched(url)
        return Failure("no_picture", f"{self.service.host}: an answer with neither b64_json nor url")

    def _fetched(self, url: str) -> bytes | Failure | Retry:
        """The file behind a URL, which was paid for: asked for as often as the service itself, without the key."""
        target = parse(url, self.config.allow_private)
        if isinstance(target, Refused):
            return Failure(target.reason, target.detail)
        found: bytes | Failed = Failed("timeout", "not asked")
        for attempt in range(self.config.patience.tries):
            found = asyncio.run(self._picture(target))
            if not (isinstance(found, Failed) and found.passing):
                break
            self.timing.sleep(found.wait_s or DOWNLOAD_WAIT_S * 2**attempt)
        if isinstance(found, bytes):
            return found
        said = f"{urlsplit(url).hostname}: {found.detail}"  # the path of such an address opens it to anybody
        return Retry(found.reason, said) if found.passing else Failure(found.reason, said)

    async def _picture(self, target: Any) -> bytes | Failed:
        async with Web(self._manners, Memory()) as web:
            return await web.picture(target)

    @cached_property
    def _manners(self) -> Manners:
        """An image that was bought is no crawl: robots are not asked."""
        return Manners(
            user_agent="lightgen-distill/0.1", timeout_s=min(self.config.patience.timeout_s, 60.0), robots=False,
            opt_out=(), allowed=self.config.allow_private,
        )  # fmt: skip


def _of_its_content(error: TryLater | SpendLimit | ServiceRefused) -> Failure | Stop | ServiceRefused:
    """What an error is to its row: refused for what it shows, perhaps refused for its form, or the end of the work."""
    if isinstance(error, ServiceRefused) and error.kinds & REFUSALS:
        return Failure("refused", str(error))
    if isinstance(error, ServiceRefused) and error.status in ROW_ONLY:
        return error
    return Stop(error)
