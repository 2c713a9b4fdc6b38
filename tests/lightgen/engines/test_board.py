"""One bar for all workers of a stage: every row once, whoever made it, and never backwards."""

from pathlib import Path

import pytest

from lightgen.engines.board import EVERY_S, Board, Seat
from lightgen.engines.loop import work_loop
from lightgen.engines.processes import Processes
from lightgen.storage.receipts import done_shards, write_plan
from lightgen.storage.store import open_or_create
from lightgen.work import Context, RunConfig, Worker
from tests.lightgen.engines.notes import NotesConfig, notes, work_of


class Heard:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.started: tuple = ()
        self.advances: list[int] = []
        self.finished = 0

    def start(self, title: str, total: int, unit: str, done: int = 0) -> None:
        self.started = (title, total, unit, done)

    def advance(self, count: int, note: str = "") -> None:
        self.advances.append(count)

    def picture(self, path: Path) -> None: ...

    def finish(self) -> None:
        self.finished += 1

    @property
    def shown(self) -> int:
        assert min(self.advances, default=1) > 0
        return self.started[3] + sum(self.advances)


@pytest.fixture
def context(tmp_path) -> Context:
    return Context(open_or_create(str(tmp_path)), progress=Heard(), role="train")


def make_elsewhere(work, context, upto) -> None:
    """Another worker, of whom only receipts are seen here, makes shards until `upto` are done."""
    store = context.store
    worker = Worker(store)
    seat = Seat(Board(store, work.plan, Heard()), worker.id)
    work_loop(work, worker, seat, stop=lambda: len(done_shards(store, work.plan)) >= upto)


def test_rows_of_others_are_seen_in_their_receipts_every_other_second(context):
    work, time = work_of(NotesConfig(shards=6, rows=4), context), [0.0]
    write_plan(context.store, work.plan)
    make_elsewhere(work, context, 1)
    board, heard = Board(context.store, work.plan, context.progress, lambda: time[0]), context.progress
    board.start("notes", 24, "rows")
    assert heard.started == ("notes", 24, "rows", 4)
    board.look()
    make_elsewhere(work, context, 3)
    board.look()
    assert heard.shown == 4, "a moment ago it looked"
    time[0] += EVERY_S
    board.look()
    assert heard.shown == 12
    make_elsewhere(work, context, 6)
    board.finish()
    assert (heard.shown, heard.finished, board.complete) == (24, 1, True)


def test_a_row_counts_once_though_it_was_ticked_and_is_in_a_receipt(context):
    work = work_of(NotesConfig(shards=2, rows=4), context)
    write_plan(context.store, work.plan)
    heard, board = context.progress, Board(context.store, work.plan, context.progress)
    board.start("notes", 8, "rows")
    ours = Seat(board, "ours")
    ours.begin(0)
    ours.advance(3)
    assert heard.shown == 3
    make_elsewhere(work, context, 2)
    board.look(at_once=True)
    assert heard.shown == 8
    ours.advance(1)
    ours.settle(0, 4)
    assert heard.shown == 8


def test_what_a_dead_worker_had_under_way_is_not_shown_twice(context):
    heard, board = context.progress, Board(context.store, work_of(NotesConfig(), context).plan, context.progress)
    board.start("notes", 16, "rows")
    for worker in ("dead", "other"):
        board.begin(worker, 0)
        board.advance(worker, 3, "")
        board.leave(worker)
    assert heard.shown == 3
    board.settle("other", 0, 4)
    assert heard.shown == 4


@pytest.mark.parametrize("engine", ["serial", "processes"])
def test_a_stage_shows_all_of_its_rows_under_its_name_and_role(tmp_path, context, engine):
    run = RunConfig() if engine == "serial" else RunConfig(engine="processes", workers=2)
    notes(NotesConfig(shards=5, rows=4), Context(context.store, run=run, progress=context.progress, role="train"))
    assert context.progress.started == ("notes train", 20, "rows", 0)
    assert (context.progress.shown, context.progress.finished) == (20, 1)


def test_ticks_of_worker_processes_are_shown_before_their_shard_is_done(context):
    """One long shard: without its ticks there would be one step only."""
    with Processes(RunConfig(engine="processes", workers=1)) as engine:
        notes(
            NotesConfig(shards=1, rows=4, seconds=2.4), Context(context.store, progress=context.progress, engine=engine)
        )
    assert len(context.progress.advances) >= 3
