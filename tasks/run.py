"""One step under Prefect: open the store, make the version, publish what it is."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from lightgen.operations.step import Step
from lightgen.storage.store import open_or_create
from lightgen.work import Context, Engine, RunConfig
from schemas.ref import ArtifactRef
from tasks.progress import RunProgress
from tasks.publish import publish
from tasks.reporting import plain_logs, sendable

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Place:
    """Where a run works: its store, its seed, and the engine that all its steps share."""

    store: str
    seed: int
    run: RunConfig
    engine: Engine


Make = Callable[[Step, list[ArtifactRef], Context], ArtifactRef]


def run_step(step: Step, refs: list[ArtifactRef], place: Place, make: Make) -> ArtifactRef:
    """Make the version of `step`; its name labels the artifacts of the run."""
    plain_logs()
    with sendable():
        store = open_or_create(place.store)
        log.info("%s: store %s", step.name, store.uri)
        began = datetime.now(UTC).replace(microsecond=0)
        context = Context(store, place.seed, place.run, RunProgress(step.name), step.role, place.engine)
        ref = make(step, refs, context)
        worked = store.open(ref).last_work >= began
        log.info("%s: %s, %s rows, %s", step.name, ref, f"{ref.rows:,}", "made" if worked else "found sealed")
        publish(step.name, ref, store, worked)
    return ref
