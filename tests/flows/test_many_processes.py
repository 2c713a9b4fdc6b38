"""A training job of several processes under a real server and worker: seen while it runs, and gone when cancelled.

Its file is read before test_serve, whose last test stops the server.
"""

import json
import re
import time

import psutil
import pytest

from tests.flows.conftest import TINY

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
LONG = {
    "pretrain.0.loop": {
        "steps": 1_000_000, "log_every": 100, "checkpoint_every": 50, "sample_every": 50, "threads": 1,
        "optimizer": {"lr": 0.001, "warmup_steps": 1},
    },
    "pretrain.0.launch": {"processes": 2, "accumulate": 2, "workers": 1},
}  # fmt: skip
PATIENCE_S = 240


def _ranks(run_id: str) -> list[psutil.Process]:
    """Processes that take part in a run, by the job file on their command line."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if any(run_id in word for word in process.info["cmdline"] or []):
            found.append(process)
    return found


def _ended(process: psutil.Process) -> bool:
    """A process whose parent died first waits as a zombie for the init process, which not every container has."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _wait(what, within_s=PATIENCE_S):
    give_up = time.monotonic() + within_s
    while not (found := what()):
        assert time.monotonic() < give_up, what.__doc__
        time.sleep(0.5)
    return found


def test_a_training_job_is_watched_and_cancelled_with_all_its_processes(served, tmp_path):
    overrides, store = json.dumps(LONG), tmp_path / "store"
    given = ["--param", f"recipe={TINY}", "--param", f"store={store}", "--param", f"overrides={overrides}"]
    started = served.prefect("deployment", "run", "train-student/train-student", *given)
    flow_run = re.search(r"UUID: ([0-9a-f-]{36})", started.stdout)[1]

    def sealed():
        """No checkpoint was sealed."""
        return list(store.glob("_scratch/*/step-*/manifest.json"))

    folder = _wait(sealed)[0].parents[1]
    ranks = _ranks(folder.name)
    assert len(ranks) >= 3, "torchrun and two processes"

    def told():
        """The run shows no samples, or no rate."""
        shown = served.artifacts(flow_run)
        return "pretrain-16px-samples" in shown and "img/s" in shown["pretrain-16px-progress"]["description"] and shown

    shown = _wait(told)
    assert "data:image/webp" in shown["pretrain-16px-samples"]["data"]
    assert "loss" in shown["pretrain-16px-progress"]["description"]

    served.prefect("flow-run", "cancel", flow_run)

    def cancelled():
        """The run was not cancelled."""
        (run,) = served.post("/flow_runs/filter", flow_runs={"id": {"any_": [flow_run]}})
        return run["state"]["type"] == "CANCELLED"

    _wait(cancelled)

    def over():
        """Processes of the run are left."""
        return all(_ended(rank) for rank in ranks)

    _wait(over, within_s=30)
    assert list(folder.glob("step-*/manifest.json")), "what was sealed is there for the next start"
