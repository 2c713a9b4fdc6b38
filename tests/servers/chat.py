"""A real server that speaks OpenAI's chat on loopback. It answers by arithmetic on the picture it was sent.

`brightness`, the default, says yes as surely as the picture is bright; what begins with "Not" it denies. Before it
answers it does what `trouble` says, one a request, and then nothing more.
"""

import asyncio
import base64
import json
import math
import threading
from collections.abc import Callable, Iterable
from typing import Any, Self

import numpy as np
from aiohttp import web

from lightgen.storage.pixels import decode_image

Ask = dict[str, Any]
Trouble = Callable[[web.Request, Ask], Any]


def brightness(text: str, pictures: list[np.ndarray]) -> float:
    """How surely the answer is yes."""
    share = float(np.mean([one.mean() for one in pictures])) / 255
    return 1 - share if "Not" in text else share


class ChatServer:
    """Use as a context. `asked` are the bodies of all requests, `headers` their headers, in order of arrival."""

    def __init__(
        self, trouble: Iterable[Trouble] = (), surely: Callable[[str, list[np.ndarray]], float] = brightness,
        write: Callable[[str, list[np.ndarray], Ask], str | None] = lambda *_: "a text",
        shape: Callable[[dict[str, Any]], dict[str, Any]] = lambda answer: answer,
    ) -> None:  # fmt: skip
        self.trouble, self.surely, self.write, self.shape = list(trouble), surely, write, shape
        self.asked: list[Ask] = []
        self.headers: list[dict[str, str]] = []
        self.at_once = self.most_at_once = 0
        self.url = ""

    def __enter__(self) -> Self:
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(ready)), daemon=True)
        self._thread.start()
        assert ready.wait(20), "the server did not start"
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(20)

    async def _serve(self, ready: threading.Event) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        application = web.Application(client_max_size=64 << 20)
        application.router.add_post("/v1/chat/completions", self._answer)
        runner = web.AppRunner(application, shutdown_timeout=0.2)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        ready.set()
        await self._end.wait()
        await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        ask = await request.json()
        self.asked.append(ask)
        self.headers.append(dict(request.headers))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if self.trouble:
                met = self.trouble.pop(0)(request, ask)
                if asyncio.iscoroutine(met):
                    met = await met
                if met is not None:
                    return met
            await asyncio.sleep(0)
            return web.json_response(self.shape(self.answer(ask)))
        finally:
            self.at_once -= 1

    def answer(self, ask: Ask) -> dict[str, Any]:
        """As OpenAI's own servers shape it."""
        text, pictures = seen(ask)
        usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
        if not ask.get("logprobs"):
            message = {"role": "assistant", "content": self.write(text, pictures, ask)}
            return {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}
        told = likeliest(self.surely(text, pictures))
        content = [{**told[0], "top_logprobs": told[: ask["top_logprobs"]]}]
        choice = {"index": 0, "message": {"role": "assistant", "content": told[0]["token"]}, "finish_reason": "stop"}
        return {"choices": [{**choice, "logprobs": {"content": content, "refusal": None}}], "usage": usage}


def seen(ask: Ask) -> tuple[str, list[np.ndarray]]:
    """Text and pictures of the last turn."""
    parts = ask["messages"][-1]["content"]
    urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    pictures = [decode_image(base64.b64decode(url.partition("base64,")[2])) for url in urls]
    assert all(isinstance(one, np.ndarray) for one in pictures)
    return next(part["text"] for part in parts if part["type"] == "text"), pictures


def likeliest(yes: float) -> list[dict[str, Any]]:
    """Tokens with probabilities that hold `yes` of 0.9 in three spellings, and no the rest of it in two."""
    shares = {" Yes": 0.9 * yes * 0.6, "Yes": 0.9 * yes * 0.3, "yes": 0.9 * yes * 0.1}
    shares |= {"No": 0.9 * (1 - yes) * 0.8, " no": 0.9 * (1 - yes) * 0.2, "Maybe": 0.05, "It": 0.03, " The": 0.01}
    listed = sorted(shares.items(), key=lambda pair: -pair[1])
    return [
        {"token": token, "logprob": math.log(share) if share > 0 else -9999.0, "bytes": list(token.encode())}
        for token, share in listed
    ]


# --- troubles ---------------------------------------------------------------------------------------------------------


def refuse(status: int, body: Any = None, **headers: str) -> Trouble:
    """An error with a body in JSON, or a text; `retry_after` is the header Retry-After."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    text = body if isinstance(body, str) else json.dumps(body or {"error": {"message": f"no {status}"}})
    kind = "text/html" if isinstance(body, str) else "application/json"
    return lambda *_: web.Response(status=status, text=text, content_type=kind, headers=named)


def hang(seconds: float) -> Trouble:
    """Says nothing for so long."""
    return lambda *_: asyncio.sleep(seconds)


def together(count: int) -> Trouble:
    """Says nothing until so many have met it: they are under way at once, however busy the machine is."""
    met: list[Ask] = []

    async def wait() -> None:
        while len(met) < count:
            await asyncio.sleep(0.01)

    def meet(request: web.Request, ask: Ask) -> Any:
        met.append(ask)
        return wait()

    return meet


def cut(request: web.Request, ask: Ask) -> Any:
    """Promises more bytes than it sends."""

    async def half() -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "application/json", "content-length": "1000"})
        await response.prepare(request)
        await response.write(b'{"choices": [')
        assert request.transport is not None
        request.transport.close()
        return response

    return half()


def drip(request: web.Request, ask: Ask) -> Any:
    """A byte at a time, for ever: no wait for a byte is long."""

    async def slow() -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(200):
            await response.write(b" ")
            await asyncio.sleep(0.05)
        return response

    return slow()
