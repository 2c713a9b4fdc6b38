"""The progress of a stage as one bar: rows of finished shards, whoever made them, and what is under way here."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from lightgen.progress import Progress
from lightgen.storage.receipts import read_receipts
from lightgen.storage.store import Store
from lightgen.work import Context, Work
from schemas.documents import Plan

EVERY_S = 2.0  # between two looks at the receipts of others
SHARE = 0.1  # of the time that such looks may take


class ShardProgress(Progress, Protocol):
    """Progress that also knows which shard is being made."""

    def begin(self, shard: int) -> None:
        """Work on `shard` begins."""
        ...

    def settle(self, shard: int, rows: int) -> None:
        """`shard` is done, and took in `rows` rows in all."""
        ...


class Board:
    """Gathers how far all workers of a stage are, and tells `progress`, in the thread that calls."""

    def __init__(self, store: Store, plan: Plan, progress: Progress, now: Callable[[], float] = time.monotonic) -> None:
        self.store, self.plan, self.progress, self.now = store, plan, progress, now
        self._rows: dict[int, int] = {}
        self._finished = self._shown = 0
        self._under_way: dict[str, tuple[int, int]] = {}
        self._next_look = 0.0

    @property
    def complete(self) -> bool:
        """Whether every shard is known to be done."""
        return len(self._rows) == self.plan.n_shards

    def start(self, title: str, total: int, unit: str) -> None:
        """Begin; what was done before says nothing about the rate."""
        self._read()
        self._shown = self._finished
        self.progress.start(title, total, unit, self._shown)

    def look(self, at_once: bool = False) -> None:
        """Count what others have done since, unless the last look was a moment ago."""
        began = self.now()
        if at_once or began >= self._next_look:
            self._read()
            self._next_look = self.now() + max(EVERY_S, (self.now() - began) / SHARE)
            self._show("")

    def sleep(self, seconds: float) -> None:
        """Sleep, and keep the bar going."""
        end = self.now() + seconds
        while (left := end - self.now()) > 0:
            self.look()
            time.sleep(min(left, EVERY_S))

    def begin(self, worker: str, shard: int) -> None:
        """`worker`, one of ours, begins `shard`."""
        self._under_way[worker] = (shard, 0)

    def advance(self, worker: str, count: int, note: str) -> None:
        """`worker` has done `count` rows more of its shard."""
        shard, rows = self._under_way.get(worker, (-1, 0))
        self._under_way[worker] = (shard, rows + count)
        self.look()
        self._show(note)

    def settle(self, worker: str, shard: int, rows: int) -> None:
        """`shard` is done."""
        self.leave(worker)
        self._add(shard, rows)
        self._show("")

    def leave(self, worker: str) -> None:
        """What `worker` had under way is done, or lost."""
        self._under_way.pop(worker, None)

    def finish(self) -> None:
        """All is done."""
        self.look(at_once=True)
        self.progress.finish()

    def _read(self) -> None:
        for shard, receipt in read_receipts(self.store, self.plan, self._rows).items():
            self._add(shard, receipt.rows_in)

    def _add(self, shard: int, rows: int) -> None:
        self._finished += rows - self._rows.get(shard, 0)
        self._rows[shard] = rows

    def _show(self, note: str) -> None:
        """Never goes back: what a dead worker had under way is shown once, and caught up with."""
        here = sum(rows for shard, rows in self._under_way.values() if shard not in self._rows)
        if self._finished + here > self._shown:
            self.progress.advance(self._finished + here - self._shown, note)
            self._shown = self._finished + here


class Seat:
    """The place of one of our workers at the board."""

    def __init__(self, board: Board, worker: str) -> None:
        self.board, self.worker = board, worker

    def start(self, title: str, total: int, unit: str, done: int = 0) -> None:
        """See `Progress.start`: the board has started."""

    def advance(self, count: int, note: str = "") -> None:
        """See `Progress.advance`."""
        self.board.advance(self.worker, count, note)

    def picture(self, path: Path) -> None:
        """See `Progress.picture`."""
        self.board.progress.picture(path)

    def finish(self) -> None:
        """See `Progress.finish`: the board does."""

    def begin(self, shard: int) -> None:
        """See `ShardProgress.begin`."""
        self.board.begin(self.worker, shard)

    def settle(self, shard: int, rows: int) -> None:
        """See `ShardProgress.settle`."""
        self.board.settle(self.worker, shard, rows)


class Own:
    """A job shows progress of its own, in steps: what it says is passed on, and shards are not counted."""

    def __init__(self, progress: Progress) -> None:
        self.start, self.advance = progress.start, progress.advance
        self.picture, self.finish = progress.picture, progress.finish

    def begin(self, shard: int) -> None:
        """See `ShardProgress.begin`."""

    def settle(self, shard: int, rows: int) -> None:
        """See `ShardProgress.settle`."""


def started_board(work: Work, context: Context) -> Board:
    """The board of a stage that counts rows, begun."""
    board = Board(context.store, work.plan, context.progress)
    title = " ".join(filter(None, (work.plan.stage, context.role)))
    board.start(title, work.needs.total, work.needs.unit)
    return board
