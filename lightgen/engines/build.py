"""Build a version: plan, shards with receipts, manifest, log. Safe to kill at any moment, and to call again.

A sealed version is returned at once, and a finished shard is never computed again. All who call this for one plan, in
any number of processes on any machine that sees the store, share the work. See docs/storage.md.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from lightgen.engines.claims import Claims, sweep
from lightgen.engines.engine import open_engine
from lightgen.engines.heartbeats import Heart, Heartbeats
from lightgen.engines.redraw import redraw
from lightgen.errors import NotMade
from lightgen.storage.commit import commit
from lightgen.storage.journal import forget
from lightgen.storage.receipts import done_shards, finished, read_receipts, write_plan
from lightgen.storage.reuse import offer
from lightgen.work import Context, Engine, Work, Worker
from schemas.ref import ArtifactRef

COMMIT = "commit"


def build(work: Work, context: Context) -> ArtifactRef:
    """The sealed version of `work`; only what is missing is computed, by the engine of the context.

    Raises NotMade for a context that only finds, TooManyRejects (nothing is published, finished shards stay),
    SchemaMismatch, DuplicateKey, StoreError, and what the engine raises.
    """
    store, plan = context.store, work.plan
    if context.find_only:
        return _found(work, context)
    if done := _finished(work, context):
        if context.redraw:
            redraw(work, done, context)
        return done
    write_plan(store, plan)
    with _engine(context) as engine:
        engine.run(work, context)
    _seal(work, context)
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


def _found(work: Work, context: Context) -> ArtifactRef:
    """The sealed version, or NotMade."""
    if found := context.store.find_sealed(work.plan):
        return found
    raise NotMade.of(work.plan, len(done_shards(context.store, work.plan)), work.needs.total)


@contextmanager
def _engine(context: Context) -> Iterator[Engine]:
    """The engine that the run shares, or one for this stage."""
    if context.engine is not None:
        yield context.engine
        return
    with open_engine(context.run) as engine:
        yield engine


def _seal(work: Work, context: Context) -> None:
    """Commit the version, or wait for the worker that does."""
    store, plan = context.store, work.plan

    def sealed() -> set[str]:
        return {COMMIT} if "manifest.json" in store.files.names(plan.folder) else set()

    if sealed():
        return
    with Heart(Heartbeats(store.files, plan.folder), Worker(store).id) as heart:
        if Claims(heart.beats, heart.worker, {COMMIT}, sealed).take() is None:
            return
        commit(store, plan, read_receipts(store, plan), work.max_reject_fraction)
        sweep(store.files, plan.folder)
