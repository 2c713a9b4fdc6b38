"""Which runs are given up: one whose process was killed, not one that waits for approval, nor one that is heard."""

import os
import signal
import subprocess
import sys
import threading
import uuid
from contextvars import copy_context
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from prefect.automations import Automation
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.events.actions import DoNothing
from prefect.events.schemas.automations import EventTrigger
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.serve import silent
from flows.serve.setup import ZOMBIES, prepare
from flows.serve.silent import MESSAGE, MISSED, UNKNOWN_S, SilentRuns
from tests.flows.conftest import ROOT, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
SILENCE_S = 20.0
RUN = """
import sys, time
from threading import Thread
from prefect import flow, pause_flow_run
from prefect.client.orchestration import get_client
from prefect.events import emit_event
from prefect.flow_engine import run_flow

FLOW_RUN, WHAT = sys.argv[1:]

def heartbeats():
    while True:
        emit_event("prefect.flow-run.heartbeat", resource={"prefect.resource.id": f"prefect.flow-run.{FLOW_RUN}"})
        time.sleep(1)

@flow(name="silent")
def one():
    Thread(target=heartbeats, daemon=True).start()
    if WHAT == "paused":
        pause_flow_run(timeout=300)
    time.sleep(300)

with get_client(sync_client=True) as client:
    flow_run = client.read_flow_run(FLOW_RUN)
run_flow(one, flow_run=flow_run)
"""
RUNNING = (StateType.RUNNING,)
BOTH = (*RUNNING, StateType.PAUSED)  # the control, which takes a pause for silence


@pytest.fixture
def client(served):
    with temporary_settings({PREFECT_API_URL: served.api_url}), get_client(sync_client=True) as client:
        yield client


@pytest.fixture
def start(served):
    """Starts a run in a process of its own, which sends a heartbeat a second; returns id and process."""
    processes = []
    env = {**os.environ, "PREFECT_API_URL": served.api_url, "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "300"}

    def start(what):
        flow = served.post("/flows/", name="silent")
        state = {"type": "PENDING", "name": "Pending"}
        flow_run = served.post("/flow_runs/", flow_id=flow["id"], name=what, state=state)["id"]
        processes.append(subprocess.Popen([sys.executable, "-c", RUN, flow_run, what], cwd=ROOT, env=env))
        return flow_run, processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait(10)


def heartbeats_of(served, flow_run):
    chosen = {"event": {"name": [silent.HEARTBEAT]}, "resource": {"id": [f"prefect.flow-run.{flow_run}"]}}
    return served.post("/events/filter", filter=chosen)["total"]


def test_a_killed_run_is_given_up_and_a_paused_or_living_one_is_not(served, client, start):
    """By a clock that goes on with each heartbeat of the living run: a busy server shows some of them much later."""
    (paused, process), (killed, other), (alive, _) = start("paused"), start("killed"), start("alive")

    def ready():
        """A run was not heard, or not paused."""
        heard = all(heartbeats_of(served, one) > 1 for one in (paused, killed, alive))
        return heard and served.state(paused)["type"] == "PAUSED" and served.state(killed)["type"] == "RUNNING"

    wait_for(ready)
    for one in (process, other):
        one.send_signal(signal.SIGKILL)
    clock = [0]
    runs, control = (SilentRuns(client, SILENCE_S, states, lambda: clock[0]) for states in (RUNNING, BOTH))
    given_up = []

    def looked(runs):
        clock[0] = heartbeats_of(served, alive)
        return [str(run.id) for run in runs.give_up()]

    assert looked(control) == [], "none is silent at first sight"

    def crashed():
        """The killed run was not given up."""
        given_up.extend(looked(runs))
        return killed in given_up

    wait_for(crashed, every_s=1)
    assert not {paused, alive} & set(given_up)
    assert (served.state(killed)["type"], served.state(killed)["message"]) == ("CRASHED", MESSAGE)
    assert (served.state(paused)["type"], served.state(alive)["type"]) == ("PAUSED", "RUNNING")

    def mistaken():
        """The control did not take the pause for silence."""
        return paused in looked(control)

    wait_for(mistaken, every_s=1)


@pytest.fixture
def recorded(served):
    """Starts a run that is no process: its state and its heartbeats, so many seconds ago, as the server has them."""

    def recorded(*ages_s):
        flow = served.post("/flows/", name="recorded")
        flow_run = served.post("/flow_runs/", flow_id=flow["id"], state={"type": "RUNNING", "name": "Running"})["id"]
        beat(flow_run, *ages_s)
        return flow_run

    def beat(flow_run, *ages_s):
        before, now = heartbeats_of(served, flow_run), datetime.now(UTC)
        resource = {"prefect.resource.id": f"prefect.flow-run.{flow_run}"}
        for age_s in ages_s:
            served.emit(event=silent.HEARTBEAT, resource=resource, occurred=f"{now - timedelta(seconds=age_s)}")

        def there():
            """The server does not show all heartbeats."""
            return heartbeats_of(served, flow_run) == before + len(ages_s)

        wait_for(there)

    recorded.beat = beat
    return recorded


def test_a_run_has_the_time_of_three_of_its_own_heartbeats(client, recorded):
    """A client elsewhere sends one in 180 s, as Prefect does by default: nothing for 90 s says nothing."""
    theirs, first, none = recorded(400, 200), recorded(5), recorded()
    ours = recorded(60, 30)  # the last, for the watcher of `make serve` gives it up in 90 s by the clock on the wall
    clock = [0.0]
    runs = SilentRuns(client, now=lambda: clock[0])
    mine = {ours, theirs, first, none}

    def given_up_at(seconds):
        clock[0] = seconds
        return {str(run.id) for run in runs.give_up()} & mine

    assert given_up_at(0) == given_up_at(90) == set()
    assert given_up_at(91) == {ours}
    recorded.beat(theirs, 0)
    assert given_up_at(MISSED * UNKNOWN_S) == set(), "it was heard"
    assert given_up_at(MISSED * UNKNOWN_S + 1) == {first}
    assert given_up_at(MISSED * (UNKNOWN_S + 200)) == set(), "200 s and more lie between its last two"
    assert given_up_at(MISSED * (UNKNOWN_S + 300)) == {theirs}


def test_the_watcher_goes_on_after_a_server_that_could_not_be_asked(monkeypatch, client, served, recorded, caplog):
    """It forgets what it heard before, for what it could not hear is no silence."""
    gone, end, looks, look = recorded(2, 1), threading.Event(), [], SilentRuns.give_up

    def give_up(self):
        looks.append(self)
        if len(looks) == 2:  # at the first look nothing is silent
            raise httpx.ConnectError("nobody there")
        return look(self)

    monkeypatch.setattr(SilentRuns, "give_up", give_up)
    thread = threading.Thread(target=copy_context().run, args=(silent.watch, end, 0.5, 1.0))
    thread.start()

    def crashed():
        """The silent run was not given up."""
        return served.state(gone)["type"] == "CRASHED"

    try:
        wait_for(crashed)
    finally:
        end.set()
        thread.join(30)
    assert not thread.is_alive()
    assert len(set(looks)) == 2, "one before the server was away, one after"
    assert "silent runs are not looked for now: nobody there" in caplog.text


def test_the_rule_of_earlier_releases_goes_however_often_the_server_is_prepared(served, client):
    earlier = Automation(name=ZOMBIES, trigger=EventTrigger(expect={uuid.uuid4().hex}), actions=[DoNothing()]).create()
    for _ in range(2):
        prepare()
    assert earlier.id not in {one["id"] for one in served.post("/automations/filter")}
    assert not [one for one in served.post("/automations/filter") if one["name"] == ZOMBIES]
    limits = served.post("/v2/concurrency_limits/filter")
    assert not [one for one in limits if "gpu" in one["name"]], "GPUs are no matter of the server"
