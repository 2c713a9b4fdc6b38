"""A small web on this machine: pictures of captions, and some of what goes wrong in the large one.

Rehearsals fetch from it, benchmarks ask it in a process of its own, and tests add every bad case to it.

    /picture/<number>.jpg|png|webp?caption=...   the scene that the caption asks for, else a slope that the number turns
    /v1/images/generations               an API of images: POST as to OpenAI's, the picture of the prompt as base64
    /missing.jpg 404, /gone.jpg 410, /page.jpg an HTML page, /cut.jpg half a JPEG, /busy/<anything>.jpg 503 once
"""

import asyncio
import base64
import threading
from collections import Counter
from collections.abc import Mapping
from functools import cache, lru_cache
from types import TracebackType
from typing import Any, Self

import numpy as np
from aiohttp import web
from PIL import Image

from lightgen.scenes.draw import draw
from lightgen.scenes.grammar import parse
from lightgen.storage.pixels import ImageFormat, encode_image

SIDE_PX = 96
IMAGES_API = "/v1/images/generations"
LEAST_PX = SIDE_PX * 3 // 4  # the shorter side
MIMES: dict[ImageFormat, str] = {"jpg": "image/jpeg", "png": "image/png", "webp": "image/webp"}


class Loopback:
    """The server, in a thread; it counts what it is asked."""

    def __init__(self, port: int = 0, side_px: int = SIDE_PX) -> None:
        self.port, self.side_px = port, side_px
        self.hits: Counter[str] = Counter()
        """By path."""
        self.targets: Counter[str] = Counter()
        """By Host header."""
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    @property
    def address(self) -> str:
        """host:port."""
        return f"127.0.0.1:{self.port}"

    def url(self, path: str) -> str:
        """Address of a path."""
        return f"http://{self.address}{path}"

    def start(self) -> Self:
        """Serve until `stop`, or until this process ends."""
        self._thread.start()
        if not self._ready.wait(30):
            raise TimeoutError("the loopback server did not start")
        return self

    def stop(self) -> None:
        """Serve no longer."""
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(30)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def _serve(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        runner = web.ServerRunner(web.Server(self._count, access_log=None))
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self.port, shutdown_timeout=0.1)
        await site.start()
        self.port = runner.addresses[0][1]
        self._ready.set()
        await self._over.wait()
        await runner.cleanup()

    async def _count(self, request: web.BaseRequest) -> web.StreamResponse:
        self.hits[request.path] += 1
        self.targets[request.host] += 1
        return await self.answer(request)

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """One answer; a test says more here."""
        path = request.path
        if path.startswith("/picture/"):
            number, _, format = path.removeprefix("/picture/").partition(".")
            if number.isdigit() and format in MIMES:
                data = picture(int(number), format, self.side_px, request.query.get("caption", ""))
                return web.Response(body=data, content_type=MIMES[format])
        if path == IMAGES_API:
            return web.json_response(drawn(await request.json()))
        if path.startswith("/busy/"):
            if self.hits[path] == 1:
                return web.Response(status=503, headers={"Retry-After": "0.1"})
            return web.Response(body=picture(len(path), "jpg", self.side_px, ""), content_type="image/jpeg")
        if path == "/page.jpg":
            return web.Response(text="<!doctype html><title>not here</title>", content_type="text/html")
        if path == "/cut.jpg":
            return web.Response(body=picture(1, "jpg", self.side_px, "")[:400], content_type="image/jpeg")
        return web.Response(status=410 if path == "/gone.jpg" else 404)


@lru_cache(4096)
def picture(number: int, format: ImageFormat, side_px: int, caption: str) -> bytes:
    """The file of a picture, three quarters as high as wide."""
    height_px, scene = side_px * 3 // 4, parse(caption) if caption else None
    if scene is not None:
        return encode_image(draw(scene, height_px, number, side_px), format, 90)
    return encode_image(_slopes(number, height_px, side_px), format, 90)


def drawn(ask: Mapping[str, Any]) -> dict[str, Any]:
    """What an API of images answers: a picture of the size that is asked for, coarse where it is large."""
    width_px, height_px = (int(side) for side in str(ask["size"]).split("x"))
    coarse = max(1, max(width_px, height_px) // SIDE_PX)
    caption = str(ask["prompt"])
    height, width = max(1, height_px // coarse), max(1, width_px // coarse)
    scene, number = parse(caption), sum(caption.encode())
    small = draw(scene, height, number, width) if scene else _slopes(number, height, width)
    file = encode_image(np.asarray(Image.fromarray(small).resize((width_px, height_px))), "png")
    return {"created": 0, "data": [{"b64_json": base64.b64encode(file).decode()}]}


def _slopes(number: int, height_px: int, width_px: int) -> np.ndarray:
    y, x = np.mgrid[0:height_px, 0:width_px]
    slopes = [x * (1 + number % 5) + number, y * (1 + number % 7) + number * 3, 255 - (x + y) // 2 + number]
    return (np.stack(slopes, -1) % 256).astype(np.uint8)


@cache
def shared() -> Loopback:
    """The one of this process, started when it is first asked for."""
    return Loopback().start()
