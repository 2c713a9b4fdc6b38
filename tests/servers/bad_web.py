"""A web on this machine that serves every bad case: what is no picture, what never ends, what leads elsewhere."""

import asyncio
import gzip
import os
import signal
import struct
import zlib

import numpy as np
from aiohttp import web
from PIL import Image

from lightgen.fetch.loopback import Loopback, picture
from lightgen.storage.pixels import encode_image
from tests.lightgen.storage.test_pixels import frames, png, saved, zip_bomb_text

JPEG = picture(7, "jpg", 96, "")
ROBOTS = "User-agent: *\nDisallow: /denied/\nAllow: /denied/but-this.jpg\n"


def bomb():
    """A hundred megabytes that travel as a hundred kilobytes."""
    return gzip.compress(JPEG + bytes(100 << 20))


def exif_rotated():
    image = Image.fromarray(np.zeros((40, 90, 3), np.uint8))
    exif = image.getexif()
    exif[0x0112] = 6
    return saved(image, "JPEG", exif=exif)


def sixteen_bit():
    return saved(Image.fromarray(np.arange(4096, dtype=np.uint16).reshape(64, 64) * 16), "PNG")


def palette_alpha():
    return saved(Image.new("RGBA", (80, 70), (200, 10, 10, 120)).quantize(), "PNG")


FILES = {
    "/empty.jpg": lambda: b"",
    "/huge.png": lambda: png(20_000, 20_000),
    "/large.png": lambda: png(13_000, 13_000),
    "/a.eps": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
    "/a.psd": lambda: b"8BPS\0\1" + bytes(8000),
    "/a.svg": lambda: b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>',
    "/a.tiff": lambda: saved(Image.new("RGB", (90, 90)), "TIFF"),
    "/many.gif": lambda: frames("GIF", 25),
    "/many.png": lambda: frames("PNG", 25),
    "/many.webp": lambda: frames("WEBP", 25),
    "/bomb.png": lambda: png(80, 80, zip_bomb_text()),
    "/tiny.png": lambda: encode_image(np.zeros((1, 1, 3), np.uint8), "png"),
    "/line.png": lambda: encode_image(np.zeros((1, 16_000, 3), np.uint8), "png"),
    "/small.png": lambda: encode_image(np.zeros((20, 30, 3), np.uint8), "png"),
    "/cmyk.jpg": lambda: saved(Image.new("CMYK", (80, 70)), "JPEG"),
    "/16bit.png": sixteen_bit,
    "/palette.png": palette_alpha,
    "/exif.jpg": exif_rotated,
    "/random.bin": lambda: zlib.compress(struct.pack(">4000I", *range(4000))) * 40,
}
HEADERS = {
    "/noai.jpg": {"X-Robots-Tag": "noindex, noai"},
    "/noimageai.jpg": {"X-Robots-Tag": "noimageai"},
    "/tdm.jpg": {"TDM-Reservation": "1"},
    "/other-bot.jpg": {"X-Robots-Tag": "googlebot: noindex"},
    "/this-bot.jpg": {"X-Robots-Tag": "lightgen-distill: noai"},
    "/nofollow.jpg": {"X-Robots-Tag": "nofollow"},
    "/declared-large.jpg": {},
}


class BadWeb(Loopback):
    """See the module; `elsewhere` is the address that redirects lead to, and `robots` the text of robots.txt."""

    def __init__(self, elsewhere="127.0.0.1:1", robots=ROBOTS, robots_status=200):
        super().__init__()
        self.elsewhere, self.robots, self.robots_status = elsewhere, robots, robots_status
        self.files, self.running, self.most_running = {}, 0, 0
        self.healed = False  # what was down answers
        self.victim, self.kill_after = None, 0  # a process that is killed when so many pictures more were asked for

    async def answer(self, request):
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            return await self._answer(request)
        finally:
            self.running -= 1

    async def _answer(self, request):
        path = request.path
        if self.victim is not None and path.startswith("/picture/"):
            self.kill_after -= 1
            if self.kill_after == 0:
                os.kill(self.victim, signal.SIGKILL)
        if path == "/robots.txt":
            return web.Response(text=self.robots, status=self.robots_status)
        if path in FILES:
            if path not in self.files:
                self.files[path] = FILES[path]()
            return web.Response(body=self.files[path], content_type="image/jpeg")
        if path in HEADERS or path.startswith("/denied/"):
            return web.Response(body=JPEG, content_type="image/jpeg", headers=HEADERS.get(path))
        name, _, rest = path[1:].partition("/")
        name = name.removesuffix(".jpg")
        if self.healed and name in ("down", "later", "reset"):
            return web.Response(body=JPEG, content_type="image/jpeg")
        special = getattr(self, f"serve_{name.replace('-', '_')}", None)
        return await (special(request, rest) if special else super().answer(request))

    async def serve_endless(self, request, rest):
        return await self._stream(request, JPEG, bytes(1 << 16), 0)

    async def serve_slow(self, request, rest):
        return await self._stream(request, JPEG[:20], b"x", 0.05)

    async def _stream(self, request, first, then, wait_s):
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        await response.write(first)
        while True:
            await response.write(then)
            await asyncio.sleep(wait_s)

    async def serve_gzip_bomb(self, request, rest):
        if "bomb" not in self.files:
            self.files["bomb"] = bomb()
        return web.Response(body=self.files["bomb"], headers={"Content-Encoding": "gzip"})

    async def serve_gzipped(self, request, rest):
        return web.Response(body=gzip.compress(JPEG), headers={"Content-Encoding": "gzip"})

    async def serve_brotli(self, request, rest):
        return web.Response(body=JPEG, headers={"Content-Encoding": "br"})

    async def serve_not_gzip(self, request, rest):
        return web.Response(body=JPEG, headers={"Content-Encoding": "gzip"})

    async def serve_reset(self, request, rest):
        request.transport.abort()
        return web.Response()

    async def serve_short(self, request, rest):
        """Ends before the length that it announced."""
        request.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n" + JPEG[:50])
        request.transport.close()
        return web.Response()

    async def serve_garbage(self, request, rest):
        request.transport.write(b"HELLO THIS IS NO HTTP\r\n\r\n")
        request.transport.close()
        return web.Response()

    async def serve_too_many(self, request, rest):
        return web.Response(status=429, headers={"Retry-After": "0.05"})

    async def serve_later(self, request, rest):
        return web.Response(status=429, headers={"Retry-After": "3600"})

    async def serve_down(self, request, rest):
        return web.Response(status=500, headers={"Retry-After": "0.05"})

    async def serve_missing(self, request, rest):
        return web.Response(status=404)

    async def serve_status(self, request, rest):
        return web.Response(status=int(rest))

    async def serve_hops(self, request, rest):
        """So many redirects, then a picture."""
        left = int(rest)
        return web.Response(status=302, headers={"Location": f"/hops/{left - 1}" if left > 1 else "/picture/1.jpg"})

    async def serve_loop(self, request, rest):
        return web.Response(status=301, headers={"Location": "/loop"})

    async def serve_to(self, request, rest):
        """Leads to what the query says, with `ELSEWHERE` in it replaced."""
        place = request.query["place"].replace("ELSEWHERE", self.elsewhere)
        return web.Response(status=307, headers={"Location": place})
