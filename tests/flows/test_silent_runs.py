"""Which runs the server gives up: one whose process was killed, not one that waits for approval."""

import os
import signal
import subprocess
import sys
import uuid
from datetime import timedelta

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.serve.setup import prepare, zombies
from tests.flows.conftest import ROOT, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(200)]
SILENCE = timedelta(seconds=30)  # on a busy machine, events reach the rules many seconds late
ONE_HEARTBEAT = "300"  # seconds from one to the next: only the first comes
RUN = """
import sys, time
import httpx
from prefect import flow, pause_flow_run
from prefect.client.orchestration import get_client
from prefect.flow_engine import run_flow

URL, FLOW_RUN, WHAT = sys.argv[1:]
HEARTBEAT = {"event": {"name": ["prefect.flow-run.heartbeat"]}, "resource": {"id": [f"prefect.flow-run.{FLOW_RUN}"]}}

def heard():
    answer = httpx.post(f"{URL}/events/filter", json={"filter": HEARTBEAT}, timeout=30)
    return answer.is_success and answer.json()["events"]

@flow(name="silent")
def silent():
    while not heard():
        time.sleep(0.1)
    if WHAT == "paused":
        pause_flow_run(timeout=300)
    print("heard", flush=True)
    time.sleep(300)

with get_client(sync_client=True) as client:
    flow_run = client.read_flow_run(FLOW_RUN)
run_flow(silent, flow_run=flow_run)
"""
# Without the names of the states in which a run waits: the control, which must be able to fail.
ENDS_ONLY = [f"prefect.flow-run.{event}" for event in ("heartbeat", "Completed", "Failed", "Cancelled", "Crashed")]


@pytest.fixture
def connected(served):
    with temporary_settings({PREFECT_API_URL: served.api_url}):
        yield


@pytest.fixture
def start(served, connected):
    """Starts a run in a process of its own, watched by a rule of its own; returns id and process."""
    processes, rules = [], []
    env = {**os.environ, "PREFECT_API_URL": served.api_url, "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": ONE_HEARTBEAT}

    def start(what, **rule):
        flow = served.post("/flows/", name="silent")
        state = {"type": "PENDING", "name": "Pending"}
        flow_run = served.post("/flow_runs/", flow_id=flow["id"], name=what, state=state)["id"]
        name = f"quick-{uuid.uuid4().hex}"
        rules.append(zombies(name, SILENCE, [f"prefect.flow-run.{flow_run}"], **rule).create())
        command = [sys.executable, "-c", RUN, served.api_url, flow_run, what]
        processes.append(subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True))
        return flow_run, processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait(10)
    for rule in rules:
        rule.delete()


def test_a_killed_run_is_given_up_and_a_paused_one_is_not(served, start):
    paused, _ = start("paused")
    given_up, _ = start("paused", signs_of_life=ENDS_ONLY)
    killed, process = start("running")
    assert process.stdout.readline() == "heard\n"
    process.send_signal(signal.SIGKILL)

    def waits():
        """The run was never paused."""
        return served.state(paused)["type"] == "PAUSED"

    wait_for(waits, within_s=60)

    def crashed():
        """The killed run, or the control, was not given up."""
        return {served.state(one)["type"] for one in (killed, given_up)} == {"CRASHED"}

    wait_for(crashed, within_s=90)
    assert served.state(killed)["message"] == "no heartbeat: its process is gone"
    assert served.state(paused)["type"] == "PAUSED"


def test_what_the_server_needs_is_there_once_however_often_it_is_prepared(served, connected):
    before = served.post("/automations/filter")
    prepare()
    after = served.post("/automations/filter")
    (rule,) = [one for one in after if one["name"] == "crash-zombies"]
    assert rule["trigger"]["expect"] == ["prefect.flow-run.*"]
    assert len(after) == len(before)
    limits = served.post("/v2/concurrency_limits/filter")
    assert not [one for one in limits if "gpu" in one["name"]], "GPUs are no matter of the server"
