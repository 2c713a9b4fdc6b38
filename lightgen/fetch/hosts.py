"""All addresses of a shard, host by host: few at once from each, many at once from all, with patience for the busy.

A host has as many lanes as it may be asked at once; a lane takes its addresses one after the other. A lane that waits
for its host holds none of the slots, so slow hosts do not keep the others back. Memory: the bodies in flight, at most
`concurrency` of them, beside what is made of them.
"""

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from lightgen.fetch.safe import Refused, Target, parse
from lightgen.fetch.states import BUSY, Failed, Made
from lightgen.fetch.web import Web

TRIES = 3  # of an address at a busy server
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 60.0
SILENT = 3  # connections in a row that a host does not take before it is given up
NO_CONNECTION = ("no connection within", "ClientConnectorError")

Finish = Callable[[bytes], Awaitable[Made]]
Settle = Callable[[str, Made], Awaitable[None]]


@dataclass
class Host:
    """One host with what is still to be asked of it."""

    queue: deque[tuple[str, Target, int]] = field(default_factory=deque)
    not_before: float = 0.0
    strikes: int = 0
    silent: int = 0
    down: Failed | None = None

    def heed(self, failed: Failed, now: float) -> None:
        """Wait as long as the server asks; twice as long at each refusal where it does not say."""
        self.strikes += 1
        asked = failed.wait_s
        if asked is not None and asked > LONGEST_WAIT_S:
            self.down = Failed(failed.reason, f"the host asks to be left alone for {asked:.0f} s")
            return
        spread = FIRST_WAIT_S * 2 ** (self.strikes - 1) * random.uniform(0.5, 1.0)
        self.not_before = max(self.not_before, now + min(LONGEST_WAIT_S, asked if asked is not None else spread))

    def count(self, made: Made | bytes) -> None:
        """Give a host up that takes no connection several times in a row."""
        lost = isinstance(made, Failed) and made.detail.startswith(NO_CONNECTION)
        self.silent = self.silent + 1 if lost else 0
        if lost and self.silent >= SILENT and self.down is None:
            self.down = Failed("connection", f"the host took none of {SILENT} connections before")


class Round:
    """Fetches addresses; `settle` hears of each once."""

    def __init__(self, web: Web, concurrency: int, finish: Finish, settle: Settle) -> None:
        self.web, self.finish, self.settle = web, finish, settle
        self.slots = asyncio.Semaphore(concurrency)

    async def run(self, urls: Sequence[str]) -> None:
        """Return when all are settled. Raises what `settle` raises."""
        hosts: dict[str, Host] = {}
        for url in urls:
            target = parse(url, self.web.manners.allowed)
            if isinstance(target, Refused):
                await self.settle(url, Failed(target.reason, target.detail))
            else:
                hosts.setdefault(target.host, Host()).queue.append((url, target, 1))
        lanes = [host for host in hosts.values() for _ in range(min(self.web.manners.per_host, len(host.queue)))]
        try:
            async with asyncio.TaskGroup() as group:
                for host in lanes:
                    group.create_task(self._lane(host))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from errors

    async def _lane(self, host: Host) -> None:
        clock = asyncio.get_running_loop().time
        while host.queue:
            if (wait_s := host.not_before - clock()) > 0 and host.down is None:
                await asyncio.sleep(wait_s)
                continue
            url, target, tries = host.queue.popleft()
            if host.down is not None:
                await self.settle(url, host.down)
                continue
            async with self.slots:
                made = await self._one(target, host)
            if isinstance(made, Failed) and made.reason in BUSY:
                host.heed(made, clock())
                if tries < TRIES:
                    host.queue.append((url, target, tries + 1))
                    continue
            await self.settle(url, made)

    async def _one(self, target: Target, host: Host) -> Made:
        body = await self.web.picture(target)
        host.count(body)
        if isinstance(body, Failed):
            return body
        host.strikes = 0
        return await self.finish(body)
