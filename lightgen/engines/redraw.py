"""Images that were evicted are drawn again, and must be the same to the last bit."""

from lightgen.engines.board import Own
from lightgen.engines.devices import held_device
from lightgen.storage.evict import absent_shards, put_back, seal_again
from lightgen.work import Context, Work, Worker, open_work
from schemas.ref import ArtifactRef


def redraw(work: Work, ref: ArtifactRef, context: Context) -> None:
    """Make the shards whose image files are gone, in this process, and put the files back.

    Raises StoreError where the images are others than those that were there.
    """
    version = context.store.open(ref)
    if not version.evicted:
        return
    shards = absent_shards(version)
    rows = sum(version.manifest.shards[shard].rows_out for shard in shards)
    context.progress.start(f"{work.plan.stage} {context.role}, again", rows, work.needs.unit)
    with held_device(context.run, work.needs) as device:
        make_shard = open_work(work, Worker(context.store, device, Own(context.progress)))
        for shard in shards:
            put_back(version, shard, make_shard(shard))
    context.progress.finish()
    seal_again(version)
