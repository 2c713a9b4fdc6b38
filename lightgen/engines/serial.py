"""The serial engine: one worker, in this process."""

from collections.abc import Callable

from lightgen.engines.board import Board, Own, Seat, started_board
from lightgen.engines.claims import Pace
from lightgen.engines.devices import held_device
from lightgen.engines.loop import work_loop
from lightgen.work import Context, Work, Worker


class Serial:
    """See `lightgen.work.Engine`."""

    def run(self, work: Work, context: Context) -> None:
        """See `Engine.run`."""
        if work.needs.sort == "job":
            with held_device(context.run, work.needs) as device:
                work_loop(work, Worker(context.store, device), Own(context.progress))
            return
        board = started_board(work, context)
        work_here(work, context, board)
        board.finish()


def work_here(work: Work, context: Context, board: Board, stop: Callable[[], bool] = lambda: False) -> None:
    """Take part in this process, and show on `board` what is done here and elsewhere."""
    with held_device(context.run, work.needs) as device:
        worker = Worker(context.store, device)
        work_loop(work, worker, Seat(board, worker.id), Pace(sleep=board.sleep), stop)
