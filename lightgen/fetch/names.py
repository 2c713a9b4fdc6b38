"""Names of hosts to addresses: looked up once, checked, and the connection goes to what was checked.

The answer of a look-up is what the connection is made to, so a name that means something else at a second look-up gains
nothing: there is none.
"""

import asyncio
import ipaddress
import socket
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from aiohttp.abc import AbstractResolver, ResolveResult

from lightgen.fetch.safe import PrivateAddress, is_public

Lookup = Callable[[str], Awaitable[Sequence[str]]]
Key = TypeVar("Key")
Value = TypeVar("Value")
MOST, FAILED_S = 65_536, 300.0
THREADS = 32


class Bounded(OrderedDict[Key, Value]):
    """Remembers at most MOST values: the one remembered first goes first."""

    def __setitem__(self, key: Key, value: Value) -> None:
        super().__setitem__(key, value)
        if len(self) > MOST:
            self.popitem(last=False)


@dataclass
class Known:
    """What look-ups gave: addresses for good, failures for some minutes."""

    addresses: Bounded[str, tuple[str, ...]] = field(default_factory=Bounded)
    failures: Bounded[str, tuple[float, str]] = field(default_factory=Bounded)


class Names(AbstractResolver):
    """Resolves for a connector. Raises PrivateAddress where any address of a name is not public, and OSError."""

    def __init__(self, allowed: Collection[str], known: Known, lookup: Lookup | None = None) -> None:
        self.allowed, self.known = frozenset(allowed), known
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="names") if lookup is None else None
        self._lookup = lookup or self._system
        self._asked: dict[str, asyncio.Task[tuple[str, ...]]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """See `AbstractResolver`; whatever this returns has been checked."""
        addresses = [ipaddress.ip_address(one) for one in await self._addresses(host)]
        if f"{host}:{port}" not in self.allowed:
            hidden = [one for one in addresses if not is_public(one)]
            if hidden:
                raise PrivateAddress(f"{host} -> {hidden[0]} is not a public address")
        return [_result(host, port, one) for one in addresses]

    async def close(self) -> None:
        """See `AbstractResolver`."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    async def _addresses(self, host: str) -> tuple[str, ...]:
        if found := self.known.addresses.get(host):
            return found
        when, why = self.known.failures.get(host, (0.0, ""))
        if why and time.monotonic() - when < FAILED_S:
            raise OSError(why)
        if host not in self._asked:
            self._asked[host] = asyncio.ensure_future(self._ask(host))
        return await asyncio.shield(self._asked[host])

    async def _ask(self, host: str) -> tuple[str, ...]:
        try:
            found = tuple(dict.fromkeys(await self._lookup(host)))
            if not found:
                raise OSError(f"{host} has no address")
            self.known.addresses[host] = found
            return found
        except (OSError, UnicodeError) as error:
            self.known.failures[host] = (time.monotonic(), str(error)[:200] or type(error).__name__)
            raise OSError(str(error)) from error
        finally:
            self._asked.pop(host, None)

    async def _system(self, host: str) -> list[str]:
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._pool, _getaddrinfo, host)
        return [one for one in found if "%" not in one]


def _getaddrinfo(host: str) -> list[str]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return [str(one[4][0]) for one in found]


def _result(host: str, port: int, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> ResolveResult:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    return ResolveResult(
        hostname=host, host=str(address), port=port, family=family, proto=socket.IPPROTO_TCP,
        flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
    )  # fmt: skip
