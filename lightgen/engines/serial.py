"""The serial engine: one worker, in this process."""

from collections.abc import Callable

from lightgen.engines.board import Board, Own, Seat, started_board
from lightgen.engines.claims import Pace
from lightgen.engines.loop import work_loop
from lightgen.settings import pick_device
from lightgen.work import Context, Work, Worker


class Serial:
    """See `lightgen.work.Engine`."""

    def run(self, work: Work, context: Context) -> None:
        """See `Engine.run`."""
        if work.needs.sort == "job":
            work_loop(work, _worker(work, context), Own(context.progress))
            return
        board = started_board(work, context)
        work_here(work, context, board)
        board.finish()


def work_here(work: Work, context: Context, board: Board, stop: Callable[[], bool] = lambda: False) -> None:
    """Take part in this process, and show on `board` what is done here and elsewhere."""
    worker = _worker(work, context)
    work_loop(work, worker, Seat(board, worker.id), Pace(sleep=board.sleep), stop)


def _worker(work: Work, context: Context) -> Worker:
    return Worker(context.store, pick_device(context.run.device) if work.needs.gpu else "cpu")
