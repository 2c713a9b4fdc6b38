"""One stage under Prefect: open the store, wait for the GPUs, call the stage, publish what it made."""

import logging
from collections.abc import Callable
from datetime import UTC, datetime

from lightgen.engines.gpu_slot import gpu_slots
from lightgen.progress import Progress
from lightgen.storage.store import Store, open_store
from schemas.ref import ArtifactRef
from tasks.progress import RunProgress
from tasks.publish import publish

log = logging.getLogger(__name__)

LOGGERS = (
    "lightgen",
    "tasks",
)  # those of prefect.toml: Prefect sends their lines to the run, but leaves their level alone


def run_stage(label: str, uri: str, stage: Callable[[Store, Progress], ArtifactRef]) -> ArtifactRef:
    """Call `stage` on the store at `uri`; `label` names its artifacts (lower case, digits, dashes)."""
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.INFO)
    store, progress = open_store(uri), RunProgress(label)
    began = datetime.now(UTC).replace(microsecond=0)
    with gpu_slots():
        ref = stage(store, progress)
    worked = store.open(ref).last_work >= began
    log.info("%s: %s, %s rows, %s", label, ref, f"{ref.rows:,}", "made" if worked else "found sealed")
    publish(label, ref, store, worked)
    return ref
