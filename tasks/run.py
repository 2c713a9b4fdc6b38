"""One step under Prefect: open the store, make the version, publish what it is."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from lightgen.operations.steps import Step
from lightgen.storage.store import open_or_create
from lightgen.work import Context, RunConfig
from schemas.ref import ArtifactRef
from tasks.progress import RunProgress
from tasks.publish import publish

log = logging.getLogger(__name__)

LOGGERS = (
    "lightgen",
    "tasks",
)  # those of prefect.toml: Prefect sends their lines to the run, but leaves their level alone


@dataclass(frozen=True)
class Place:
    """Where a run works: its store, its seed and its engine."""

    store: str
    seed: int
    run: RunConfig = field(default_factory=RunConfig)


Make = Callable[[Step, list[ArtifactRef], Context], ArtifactRef]


def run_step(step: Step, refs: list[ArtifactRef], place: Place, make: Make) -> ArtifactRef:
    """Make the version of `step`; its name labels the artifacts of the run."""
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.INFO)
    store = open_or_create(place.store)
    began = datetime.now(UTC).replace(microsecond=0)
    ref = make(step, refs, Context(store, place.seed, place.run, RunProgress(step.name), step.role))
    worked = store.open(ref).last_work >= began
    log.info("%s: %s, %s rows, %s", step.name, ref, f"{ref.rows:,}", "made" if worked else "found sealed")
    publish(step.name, ref, store, worked)
    return ref
