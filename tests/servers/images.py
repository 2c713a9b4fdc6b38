"""A real API of images on loopback that draws, and misbehaves as it is told.

Before it answers it does what `trouble` says, one a request in order of arrival, and then nothing more; `always` says
by prompt what is done each time.
"""

import asyncio
import base64
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from aiohttp import web

from lightgen.fetch.loopback import IMAGES_API, Loopback, drawn
from lightgen.storage.pixels import encode_image

Ask = dict[str, Any]
Trouble = Callable[[web.BaseRequest, Ask], Any]


class ImagesServer(Loopback):
    """Use as a context. `asked` are the bodies of all requests, `keys` what came as Authorization."""

    def __init__(
        self, trouble: Iterable[Trouble] = (), always: Mapping[str, Trouble] | None = None,
        shape: Callable[[Ask, dict[str, Any]], dict[str, Any]] = lambda _, answer: answer,
    ) -> None:  # fmt: skip
        super().__init__()
        self.trouble, self.always, self.shape = list(trouble), dict(always or {}), shape
        self.asked: list[Ask] = []
        self.keys: list[str] = []
        self.fetched: list[dict[str, str]] = []
        self.at_once = self.most_at_once = 0

    @property
    def api(self) -> str:
        """What a recipe gives as `url`."""
        return self.url("/v1")

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """See `Loopback.answer`."""
        if request.path != IMAGES_API:
            self.fetched.append(dict(request.headers))
            return await super().answer(request)
        ask = await request.json()
        self.asked.append(ask)
        self.keys.append(request.headers.get("Authorization", ""))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return await self._answered(request, ask)
        finally:
            self.at_once -= 1

    async def _answered(self, request: web.BaseRequest, ask: Ask) -> web.StreamResponse:
        trouble = self.trouble.pop(0) if self.trouble else self.always.get(ask["prompt"])
        met = trouble(request, ask) if trouble else None
        if asyncio.iscoroutine(met):
            met = await met
        if met is not None:
            return met
        return web.json_response(self.shape(ask, drawn(ask)))


def data(**entry: Any) -> Trouble:
    """An answer with this entry."""
    return lambda *_: web.json_response({"created": 0, "data": [entry]})


def text(body: str) -> Trouble:
    """Says it is well, and answers something else than JSON."""
    return lambda *_: web.Response(text=body, content_type="application/json")


def picture(height: int, width: int) -> str:
    """Base64 of a grey picture."""
    return base64.b64encode(encode_image(np.full((height, width, 3), 128, np.uint8), "png")).decode()


def refusal(code: str = "content_policy_violation", message: str = "Your request was rejected.") -> Trouble:
    """As OpenAI refuses a prompt for its content."""
    body = {"error": {"code": code, "message": message, "param": None, "type": "invalid_request_error"}}
    return lambda *_: web.Response(status=400, text=json.dumps(body), content_type="application/json")
