"""A training job of several processes under a real server and worker: seen while it runs, and gone when cancelled."""

import psutil
import pytest

from tests.flows.conftest import TINY, wait_for
from tests.processes import ended

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
LONG = {
    "pretrain.0.loop": {
        "steps": 1_000_000, "log_every": 100, "checkpoint_every": 50, "sample_every": 50, "threads": 1,
        "optimizer": {"lr": 0.001, "warmup_steps": 1},
    },
    "pretrain.0.launch": {"processes": 2, "accumulate": 2, "workers": 1},
}  # fmt: skip


def _ranks(run_id: str) -> list[psutil.Process]:
    """Processes that take part in a run, by the job file on their command line."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if any(run_id in word for word in process.info["cmdline"] or []):
            found.append(process)
    return found


def test_a_training_job_is_watched_and_cancelled_with_all_its_processes(served, tmp_path):
    store = tmp_path / "store"
    flow_run = served.start("train-student", recipe=TINY, overrides=LONG, store=str(store))

    def sealed():
        """No checkpoint was sealed."""
        return list(store.glob("_scratch/*/step-*/manifest.json"))

    folder = wait_for(sealed)[0].parents[1]
    ranks = _ranks(folder.name)
    assert len(ranks) >= 3, "torchrun and two processes"

    def told():
        """The run shows no samples, or no rate."""
        shown = served.artifacts(flow_run)
        both = {"pretrain-16px-samples", "pretrain-16px-progress"} <= shown.keys()
        return both and "img/s" in shown["pretrain-16px-progress"]["description"] and shown

    shown = wait_for(told)
    assert "data:image/webp" in shown["pretrain-16px-samples"]["data"]
    assert "loss" in shown["pretrain-16px-progress"]["description"]

    served.post(f"/flow_runs/{flow_run}/set_state", state={"type": "CANCELLING"})

    def cancelled():
        """The run was not cancelled."""
        return served.state(flow_run)["type"] == "CANCELLED"

    wait_for(cancelled)

    def over():
        """Processes of the run are left."""
        return all(ended(rank) for rank in ranks)

    wait_for(over, within_s=30)
    assert list(folder.glob("step-*/manifest.json")), "what was sealed is there for the next start"
