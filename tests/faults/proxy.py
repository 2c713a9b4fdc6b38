"""A proxy before an S3 server that does what networks do: seeded faults, one in so many requests."""

import asyncio
import random
import threading
from collections import Counter
from urllib.parse import urlsplit

FAULTS = ("503", "500", "409", "reset", "lost reply", "500 after", "cut upload", "cut download", "delay")
SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
CONFLICT = b"<Error><Code>ConditionalRequestConflict</Code><Message>Try again.</Message></Error>"
INTERNAL = b"<Error><Code>InternalError</Code><Message>We encountered an internal error.</Message></Error>"


class FaultyProxy:
    """Listens on `endpoint` while it is entered; `injected` counts its faults by kind."""

    def __init__(self, upstream, seed, rate):
        self.upstream, self.rng, self.rate = urlsplit(upstream), random.Random(seed), rate
        self.injected = Counter()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self):
        self._thread.start()
        started = asyncio.run_coroutine_threadsafe(asyncio.start_server(self._serve, "127.0.0.1", 0), self._loop)
        self.server = started.result(10)
        self.endpoint = f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"
        return self

    def __exit__(self, *error):
        self._loop.call_soon_threadsafe(self.server.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    async def _serve(self, reader, writer):
        """One request, then the connection is closed."""
        try:
            head, body = await read_request(reader, writer)
            fault = self.rng.choice(FAULTS) if self.rng.random() < self.rate else ""
            if fault == "409" and b"if-none-match" not in head.lower():
                fault = ""
            if fault:
                self.injected[fault] += 1
            answer = await self._answer(fault, head, body)
            writer.write(answer[: len(answer) // 2] if fault == "cut download" else answer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client was killed, or the server hung up on half a request
        finally:
            writer.close()

    async def _answer(self, fault, head, body):
        if fault == "503":
            return reply(503, SLOW_DOWN)
        if fault == "409":
            return reply(409, CONFLICT)
        if fault == "500":
            return reply(500, INTERNAL)
        if fault == "reset":
            return b""
        if fault == "delay":
            await asyncio.sleep(0.3)
        if fault == "cut upload":
            await self._send_half(head, body)
            return b""
        answer = await self._forward(head, body)
        if fault == "lost reply":
            return b""
        return reply(500, INTERNAL) if fault == "500 after" else answer

    async def _send_half(self, head, body):
        _, writer = await asyncio.open_connection(self.upstream.hostname, self.upstream.port)
        writer.write(head + body[: len(body) // 2])
        await writer.drain()
        writer.close()

    async def _forward(self, head, body):
        reader, writer = await asyncio.open_connection(self.upstream.hostname, self.upstream.port)
        try:
            writer.write(head + body)
            await writer.drain()
            return await reader.read()
        finally:
            writer.close()


async def read_request(reader, writer):
    """Head, changed so that the server closes the connection after its answer, and body."""
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines[1:])}
    if fields.get(b"expect"):
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert b"transfer-encoding" not in fields, "bodies come with their length"
    body = await reader.readexactly(int(fields.get(b"content-length", 0)))
    kept = [line for line in lines if line.partition(b":")[0].lower() not in (b"expect", b"connection")]
    return b"\r\n".join([*kept, b"Connection: close"]) + b"\r\n\r\n", body


def reply(status, body):
    """A whole answer."""
    return b"HTTP/1.1 %d Fault\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (status, len(body), body)
