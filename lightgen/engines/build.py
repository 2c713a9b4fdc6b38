"""Build a version: plan, shards with receipts, manifest, log. Safe to kill at any moment, and to call again.

A sealed version is returned at once, a finished shard is never computed again, and two runs of one recipe share the
work. See docs/storage.md.
"""

from lightgen.engines import serial
from lightgen.storage.commit import commit
from lightgen.storage.journal import forget
from lightgen.storage.receipts import finished, read_receipts, write_plan
from lightgen.storage.reuse import offer
from lightgen.work import Context, Work
from schemas.ref import ArtifactRef


def build(work: Work, context: Context) -> ArtifactRef:
    """The sealed version of `work`; only what is missing is computed, by the engine of the context.

    Raises TooManyRejects (nothing is published, finished shards stay), SchemaMismatch, DuplicateKey, StoreError.
    """
    store, plan = context.store, work.plan
    if done := _finished(work, context):
        return done
    write_plan(store, plan)
    serial.run(work, context)
    commit(store, plan, read_receipts(store, plan), work.max_reject_fraction)
    done = _finished(work, context)
    assert done is not None, "commit has sealed it"
    return done


def _finished(work: Work, context: Context) -> ArtifactRef | None:
    done = finished(context.store, work.plan, context.role)
    if done is None:
        return None
    forget(context.store.files, work.plan)
    if work.family:
        offer(context.store, work.plan, work.family)
    return done
