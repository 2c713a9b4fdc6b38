"""Asks servers for pictures: every hop is checked before it is asked, and every byte is counted as it comes.

No library follows a redirect, inflates a body or looks into the environment here.
"""

import asyncio
import time
import zlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Self

import aiohttp
from yarl import URL

from lightgen.fetch.names import Bounded, Known, Lookup, Names
from lightgen.fetch.robots import MAX_BYTES, Rules, read_rules
from lightgen.fetch.safe import PrivateAddress, Refused, Target, parse
from lightgen.fetch.states import Failed, of_status
from lightgen.fetch.waiting import retry_after
from lightgen.storage.pixels import sniff

REDIRECTS, ROBOTS_REDIRECTS = 3, 5
MOVED = (301, 302, 303, 307, 308)
HEAD = 4096  # bytes after which a body that is no picture is given up
HEADERS = {"Accept": "image/jpeg, image/png, image/webp, */*;q=0.1", "Accept-Encoding": "identity"}


@dataclass(frozen=True)
class Manners:
    """How servers are asked, and how much is taken from them."""

    user_agent: str
    timeout_s: float = 20.0
    connect_s: float = 5.0
    max_bytes: int = 32 << 20
    per_host: int = 2
    robots: bool = True
    opt_out: tuple[str, ...] = ("noai", "noimageai", "noindex", "noimageindex")
    allowed: tuple[str, ...] = ()


@dataclass
class Memory:
    """What a worker remembers from shard to shard: addresses of hosts, and what they say to robots."""

    known: Known = field(default_factory=Known)
    robots: Bounded[str, "Rules | Failed"] = field(default_factory=Bounded)


class Unreachable(Exception):  # a verdict that leaves several levels at once
    """Carries why an address was given up."""

    def __init__(self, failed: Failed) -> None:
        super().__init__(failed.reason)
        self.failed = failed


class Web:
    """An open client, for one event loop."""

    def __init__(self, manners: Manners, memory: Memory, lookup: Lookup | None = None) -> None:
        self.manners, self.memory, self._lookup = manners, memory, lookup
        self._gates: dict[str, asyncio.Semaphore] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def __aenter__(self) -> Self:
        self._names = Names(self.manners.allowed, self.memory.known, self._lookup)
        connector = aiohttp.TCPConnector(
            limit=0, resolver=self._names, use_dns_cache=False, enable_cleanup_closed=False
        )
        self._session = aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False, trust_env=False,
            headers={**HEADERS, "User-Agent": self.manners.user_agent},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self.manners.connect_s),
        )  # fmt: skip
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()
        await self._names.close()

    async def picture(self, target: Target) -> bytes | Failed:
        """The bytes behind an address, not yet looked at; or why there are none."""
        try:
            async with self._followed(target, REDIRECTS, asks_robots=self.manners.robots) as response:
                if isinstance(response, Refused):
                    return Failed(response.reason, response.detail)
                if response.status != 200:
                    wait_s = retry_after(response.headers, time.time())
                    return Failed(of_status(response.status), f"{response.status} {response.reason}"[:200], wait_s)
                if said := opted_out(response.headers, self.manners):
                    return Failed("opted_out", said)
                return await _body(response, self.manners.max_bytes, pictures=True)
        except Unreachable as error:
            return error.failed

    @asynccontextmanager
    async def _followed(
        self, target: Target, most: int, asks_robots: bool
    ) -> AsyncIterator[aiohttp.ClientResponse | Refused]:
        """The answer at the end of all redirects; each hop is an address like any other. Raises Unreachable."""
        place = ""
        for hop in range(1, most + 2):
            if asks_robots:
                await self._ask_robots(target)
            async with self._asked(target, hop) as response:
                place = response.headers.get("Location", "") if response.status in MOVED else ""
                if not place:
                    yield response
                    return
            following = parse(_joined(target.url, place), self.manners.allowed)
            if isinstance(following, Refused):
                yield Refused(following.reason, f"{following.detail} (hop {hop + 1})")
                return
            target = following
        yield Refused("url_redirects", f"more than {most} redirects, the last to {place[:200]}")

    @asynccontextmanager
    async def _asked(self, target: Target, hop: int) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer of one server, within its time. Raises Unreachable with what goes wrong until it is read."""
        gate = self._gates.setdefault(target.host, asyncio.Semaphore(self.manners.per_host))
        note = f" (hop {hop})" if hop > 1 else ""
        try:
            async with (
                gate,
                asyncio.timeout(self.manners.timeout_s),
                self._session.get(target.url, allow_redirects=False) as response,
            ):
                yield response  # whatever it still sends when this is left is not wanted: the connection is closed
        except (PrivateAddress, TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            failed = _explained(error, self.manners)
            raise Unreachable(Failed(failed.reason, f"{failed.detail}{note}")) from error

    async def _ask_robots(self, target: Target) -> None:
        """Raises Unreachable where the host wants no robots at this address."""
        rules = self.memory.robots.get(target.origin)
        if rules is None:
            async with self._locks.setdefault(target.origin, asyncio.Lock()):
                rules = self.memory.robots.get(target.origin)
                if rules is None:
                    rules = self.memory.robots[target.origin] = await self._robots(target)
        if isinstance(rules, Failed):
            raise Unreachable(rules)
        if rules.patterns and not rules.allow(target.url.raw_path_qs):
            raise Unreachable(Failed("robots", f"robots.txt of {target.host} disallows {target.url.raw_path[:120]}"))

    async def _robots(self, target: Target) -> Rules | Failed:
        """RFC 9309: without a robots.txt all is allowed; where it cannot be reached, nothing is."""
        try:
            file = replace(target, url=target.url.origin() / "robots.txt")
            async with self._followed(file, ROBOTS_REDIRECTS, asks_robots=False) as response:
                if isinstance(response, Refused):
                    return Rules()
                if response.status >= 500:
                    return Failed("robots_unreachable", f"robots.txt of {target.host}: {response.status}")
                if response.status != 200:
                    return Rules()
                body = await _body(response, MAX_BYTES, pictures=False)
                text = body.decode("utf-8", "replace") if isinstance(body, bytes) else ""
                return read_rules(text, self.manners.user_agent)
        except Unreachable as error:
            return Failed(error.failed.reason, f"robots.txt of {target.host}: {error.failed.detail}")


def opted_out(headers: Mapping[str, str], manners: Manners) -> str:
    """What an answer says against its use for training; empty where it says nothing, or says it to others."""
    own = manners.user_agent.partition("/")[0].lower()
    said = headers.getall("X-Robots-Tag", []) if hasattr(headers, "getall") else []  # pyright: ignore[reportAttributeAccessIssue]
    for value in said:
        name, colon, rest = value.partition(":")
        if colon and name.strip().lower() != own:
            continue
        words = {word.strip().lower() for word in (rest if colon else value).split(",")}
        if found := words & set(manners.opt_out):
            return f"X-Robots-Tag: {', '.join(sorted(found))}"
    return "TDM-Reservation: 1" if headers.get("TDM-Reservation", "").strip() == "1" else ""


async def _body(response: aiohttp.ClientResponse, limit: int, pictures: bool) -> bytes | Failed:
    """At most `limit` bytes, inflated where the server deflates unasked; of what is no picture only the head."""
    coding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if coding not in ("", "identity", "gzip", "x-gzip", "deflate"):
        return Failed("content_encoding", f"Content-Encoding {coding[:40]} was not asked for")
    inflater = None if coding in ("", "identity") else zlib.decompressobj(47)
    if inflater is None and (response.content_length or 0) > limit:
        return Failed("too_large", f"{response.content_length} bytes > {limit}")
    parts, size = [], 0
    async for chunk in response.content.iter_any():
        try:
            part = chunk if inflater is None else inflater.decompress(chunk, limit - size + 1)
        except zlib.error as error:
            return Failed("content_encoding", f"Content-Encoding {coding}: {error}"[:200])
        parts.append(part)
        size += len(part)
        if size > limit:
            return Failed("too_large", f"more than {limit} bytes") if pictures else b"".join(parts)[:limit]
        if pictures and size >= HEAD and len(parts) < 16 and _is_none(head := b"".join(parts)):
            return head
    return b"".join(parts)


def _is_none(head: bytes) -> bool:
    """Whether bytes begin like no picture; what is animated tells only as a whole."""
    return sniff(head) is None and not head.startswith(b"GIF8")


def _joined(base: URL, place: str) -> str:
    """Where a redirect leads; what cannot be joined is left as it is, for `parse` to refuse."""
    try:
        return str(base.join(URL(place))) if "\\" not in place else place
    except ValueError:
        return place


def _explained(error: Exception, manners: Manners) -> Failed:
    said = f"{type(error).__name__}: {error}"[:300]
    match error:
        case PrivateAddress():
            return Failed("url_private", str(error))
        case aiohttp.ClientConnectorDNSError():
            return Failed("dns", str(error.os_error)[:200])
        case aiohttp.ConnectionTimeoutError():
            return Failed("timeout", f"no connection within {manners.connect_s:g} s")
        case TimeoutError():
            return Failed("timeout", f"no answer within {manners.timeout_s:g} s")
        case aiohttp.ClientSSLError():
            return Failed("tls", said)
        case aiohttp.InvalidURL() | ValueError():
            return Failed("url_malformed", said)
        case aiohttp.ClientResponseError():
            return Failed("http_malformed", said)
        case _:
            return Failed("connection", said)
