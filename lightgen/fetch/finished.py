"""Finished addresses of a shard in work, kept batch by batch: a kill costs the batch that is not yet written."""

import asyncio
import hashlib
from collections.abc import Callable, Mapping

import pyarrow as pa

from lightgen.fetch.states import Failed, Got, Made
from lightgen.storage.journal import Journal

SCHEMA = pa.schema(
    [
        pa.field("url", pa.string(), nullable=False),
        pa.field("data", pa.large_binary(), nullable=False, metadata={"is": "the file; empty where there is none"}),
        pa.field("format", pa.string(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("received", pa.string(), nullable=False, metadata={"is": "sha256 of what the server sent"}),
        pa.field("reason", pa.string(), nullable=False, metadata={"is": "why there is no picture, or empty"}),
        pa.field("detail", pa.string(), nullable=False),
    ]
)
NOTHING = {"data": b"", "format": "", "height": 0, "width": 0, "received": "", "reason": "", "detail": ""}


class Keeper:
    """Writes answers down while others come in; never more than `most` of them are not yet written.

    `told` hears of every batch: how many answers, and how many pictures among them.
    """

    def __init__(self, journal: Journal, most: int, told: Callable[[int, int], None]) -> None:
        self.journal, self.half, self.told = journal, max(1, most // 2), told
        self.made: dict[str, Made] = {}
        self._waiting: dict[str, Made] = {}
        self._room = asyncio.Semaphore(most)
        self._writing: asyncio.Task[None] | None = None

    async def settle(self, url: str, made: Made) -> None:
        """One answer more. Raises what writing raises."""
        await self._room.acquire()
        self._raise()
        self.made[url] = self._waiting[url] = made
        if len(self._waiting) >= self.half and (self._writing is None or self._writing.done()):
            self._writing = asyncio.create_task(self._write())

    async def finish(self) -> dict[str, Made]:
        """All answers; what is not yet written is sealed with the shard."""
        if self._writing is not None:
            await self._writing
        self._tell(self._waiting)
        return self.made

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        while len(self._waiting) >= self.half:
            batch, self._waiting = self._waiting, {}
            try:
                await loop.run_in_executor(None, keep, self.journal, batch)
            finally:
                for _ in batch:
                    self._room.release()
            self._tell(batch)

    def _tell(self, batch: Mapping[str, Made]) -> None:
        self.told(len(batch), sum(isinstance(one, Got) for one in batch.values()))

    def _raise(self) -> None:
        if self._writing is not None and self._writing.done():
            self._writing.result()


def keep(journal: Journal, batch: Mapping[str, Made]) -> None:
    """Write a batch down."""
    journal.add(pa.Table.from_pylist([_entry(url, made) for url, made in batch.items()], schema=SCHEMA))


def read(journal: Journal) -> dict[str, Made]:
    """What an earlier attempt has finished, by address. Raises StoreCorrupt."""
    found: dict[str, Made] = {}
    for row in (row for table in journal.read() for row in table.to_pylist()):
        if row["reason"]:
            found[row["url"]] = Failed(row["reason"], row["detail"])
        else:
            digest = hashlib.sha256(row["data"]).hexdigest()
            found[row["url"]] = Got(row["data"], row["format"], row["height"], row["width"], digest, row["received"])
    return found


def _entry(url: str, made: Made) -> dict[str, object]:
    if isinstance(made, Failed):
        detail = made.detail.encode("utf-8", "backslashreplace").decode()
        return {**NOTHING, "url": url, "reason": made.reason, "detail": detail}
    facts = {name: getattr(made, name) for name in ("data", "format", "height", "width", "received")}
    return {**NOTHING, "url": url, **facts}
