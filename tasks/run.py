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
from tasks.reporting import plain_logs, sendable

log = logging.getLogger(__name__)


def run_stage(label: str, uri: str, stage: Callable[[Store, Progress], ArtifactRef]) -> ArtifactRef:
    """Call `stage` on the store at `uri`; `label` names its artifacts (lower case, digits, dashes)."""
    plain_logs()
    with sendable():
        store, progress = open_store(uri), RunProgress(label)
        log.info("%s: store %s", label, store.uri)
        began = datetime.now(UTC).replace(microsecond=0)
        with gpu_slots():
            ref = stage(store, progress)
        worked = store.open(ref).last_work >= began
        log.info("%s: %s, %s rows, %s", label, ref, f"{ref.rows:,}", "made" if worked else "found sealed")
        publish(label, ref, store, worked)
    return ref
