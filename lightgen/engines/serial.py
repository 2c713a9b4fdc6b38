"""The serial engine: one worker, in this process."""

from lightgen.engines.loop import work_loop
from lightgen.settings import pick_device
from lightgen.storage.receipts import read_receipts
from lightgen.work import Context, Work, Worker


def run(work: Work, context: Context) -> None:
    """Make every missing shard here. A job shows progress of its own: steps, not rows."""
    device = pick_device(context.run.device) if work.needs.gpu else "cpu"
    worker = Worker(context.store, device, context.progress)
    if work.needs.sort == "job":
        work_loop(work, worker)
        return
    done = sum(receipt.rows_in for receipt in read_receipts(context.store, work.plan).values())
    title = " ".join(filter(None, (work.plan.stage, context.role)))
    context.progress.start(title, work.needs.total, work.needs.unit, done)
    work_loop(work, worker)
    context.progress.finish()
