"""The engine `processes`: a worker process a GPU, else a core, of this machine; they serve all stages of a run."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from lightgen.engines.board import Board, started_board
from lightgen.engines.crew import CLOSE_S, Child, Crew
from lightgen.engines.devices import Device, devices
from lightgen.engines.lines import refused, said
from lightgen.engines.serial import Serial, work_here
from lightgen.errors import LightgenError, WorkersLost
from lightgen.storage.receipts import done_shards
from lightgen.work import Context, RunConfig, Work

log = logging.getLogger(__name__)

# A worker process needs about as long to import what it needs. So a stage on the CPU is short where this process alone
# ends it in that time; workers for longer ones come that much later.
SHORT_S = 5.0
HEAR_S = 0.5


class Processes:
    """See `lightgen.work.Engine`. Entered, it may serve many stages; left, it ends what it started."""

    def __init__(self, config: RunConfig) -> None:
        self.config, self.crew = config, Crew()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.crew.close(grace_s=0.0 if error[0] else CLOSE_S)

    def run(self, work: Work, context: Context) -> None:
        """See `Engine.run`. A decision or a job is made in this process; before a job the GPUs are freed."""
        if work.needs.sort == "job":
            self.crew.close()
        if work.needs.sort != "map":
            Serial().run(work, context)
            return
        board = started_board(work, context)
        try:
            self._run_map(work, context, board)
        except BaseException:
            self.crew.close(grace_s=0.0)
            raise
        board.finish()

    def _run_map(self, work: Work, context: Context, board: Board) -> None:
        missing = work.plan.n_shards - len(done_shards(context.store, work.plan))
        chosen = devices(self.config, work.needs)[:missing]
        if chosen and self._may_be_short(chosen):
            with self.crew.soon(work, chosen, SHORT_S) as started:
                work_here(work, context, board, stop=started)
            board.look(at_once=True)
        if chosen and not board.complete:
            _Watch(work, board, self.crew.start(work, chosen)).follow(self.crew)

    def _may_be_short(self, chosen: Sequence[Device]) -> bool:
        return self.config.workers == "auto" and not chosen[0].gpu and not self.crew.children


class _Watch:
    """Follows the children of one stage until it is complete, or all of them have ended."""

    def __init__(self, work: Work, board: Board, children: Sequence[Child]) -> None:
        self.work, self.board = work, board
        self.working, self.ended = list(children), list[Child]()

    def follow(self, crew: Crew) -> None:
        """Raises what the first child to fail has told, or WorkersLost."""
        while self.working and not self.board.complete:
            heard = crew.hear(HEAR_S)
            if heard is not None:
                self._hear(*heard)
            self.board.look()
        self.board.look(at_once=True)
        if not self.board.complete:
            raise self._why()

    def _hear(self, child: Child, line: str | None) -> None:
        if line is None:
            self._lose(child)
        elif what := said(line):
            self._obey(child, *what)
        elif error := refused(line):
            child.error = error
        elif line:
            child.last.append(line)
            log.info("%s: %s", child.name, line)

    def _obey(self, child: Child, verb: str, *values: Any) -> None:
        if verb == "work":
            child.version = values[0]
        if child.version != self.work.plan.version:
            return  # it still says what it did for the stage before
        if verb == "begin":
            self.board.begin(child.name, *values)
        elif verb == "advance":
            self.board.advance(child.name, *values)
        elif verb == "settle":
            self.board.settle(child.name, *values)
        elif verb == "picture":
            self.board.progress.picture(Path(values[0]))
        elif verb == "done":
            self.board.look(at_once=True)

    def _lose(self, child: Child) -> None:
        """Others take over what it had: its lock is free."""
        self.board.leave(child.name)
        if child in self.working:
            self.working.remove(child)
            self.ended.append(child)
            log.warning(
                "%s ended early (status %s); %d are left", child.name, child.process.returncode, len(self.working)
            )

    def _why(self) -> LightgenError:
        for child in self.ended:
            if child.error is not None:
                return child.error
        told = "\n".join(line for child in self.ended[-1:] for line in child.last)
        return WorkersLost(
            f"{self.work.plan.stage}: all {len(self.ended)} worker processes have ended before the stage did; finished "
            "shards stay, so the same command goes on. The last lines of the last one were:\n" + told
        )
