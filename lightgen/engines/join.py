"""A worker that was started elsewhere takes part, once it is certain that it would make the same rows."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from lightgen.config import Config
from lightgen.engines.board import ShardProgress
from lightgen.engines.devices import held_view
from lightgen.engines.loop import work_loop
from lightgen.errors import RefNotFound, WorkerMismatch
from lightgen.storage.store import Store, open_store
from lightgen.work import Work, Worker, named, revisions


def join(work: Work, device: str, progress: ShardProgress, worker_id: str | None = None) -> None:
    """Make shards of `work` on `device` until all are done. Raises WorkerMismatch, and what the stage raises."""
    store = open_right_store(work)
    check_code(work)
    worker = Worker(store, device) if worker_id is None else Worker(store, device, id=worker_id)
    with held_view(device):
        work_loop(work, worker, progress)


def open_right_store(work: Work) -> Store:
    """The store of the run. Raises WorkerMismatch where this machine sees none, or another, at its address."""
    shared = "use a folder that every machine sees at the same path, or an S3 store"
    try:
        store = open_store(work.store)
    except RefNotFound:
        raise WorkerMismatch(f"{work.store}: this worker sees no store there; {shared}") from None
    if store.mark.store_id != work.store_id:
        raise WorkerMismatch(
            f"{work.store}: this worker sees the store {store.mark.store_id[:12]} there, the run has "
            f"{work.store_id[:12]}; {shared}"
        )
    return store


def check_code(work: Work) -> None:
    """Raises WorkerMismatch naming each revision and each digest of a model that is not that of the run."""
    named(work.open)  # what it imports has the revisions
    mine = revisions()
    different = [
        f"{name} is revision {mine[name]} here and {number} in the run"
        for name, number in work.revisions.items()
        if name in mine and mine[name] != number
    ]
    settings: type[Config] = named(work.settings)
    content = json.loads(json.dumps(settings.model_validate(work.config).content()))
    different += [
        f"{path} is {here} here and {there} in the run" for path, here, there in _differences(content, work.content)
    ]
    if different:
        raise WorkerMismatch(
            f"this worker cannot join {work.plan.stage}, it would make other rows: {'; '.join(different)}. "
            "Give all machines the same code and models"
        )


def _differences(here: Any, there: Any, path: str = "") -> Iterator[tuple[str, str, str]]:
    if isinstance(here, Mapping) and isinstance(there, Mapping):
        for key in sorted(here.keys() | there.keys()):
            yield from _differences(here.get(key), there.get(key), f"{path}.{key}".lstrip("."))
    elif here != there:
        yield path, json.dumps(here), json.dumps(there)
