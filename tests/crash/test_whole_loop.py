"""The whole loop, killed three times with SIGKILL, ends where an uninterrupted one ends."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import get_args

import psutil
import pytest

from flows.serve import server
from lightgen.storage.store import open_or_create
from schemas.ref import Kind
from tests.crash.invariants import violations
from tests.crash.kills import COMMAND

ROOT = Path(__file__).parents[2]
TINY = "tests/recipes/tiny.yaml"
KILLS, PATIENCE_S = 3, 400.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """One Prefect server for all starts: a server of its own would double the time of each."""
    home = tmp_path_factory.mktemp("prefect")
    api_url = f"http://127.0.0.1:{(port := server.free_port())}/api"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    env = {**clean, **server.environment(api_url, home), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "uvicorn", "--factory", server.APP, "--host", "127.0.0.1", "--port", str(port)]
    final = {"PREFECT__SERVER_FINAL": "1", "PREFECT_SERVER_API_PORT": str(port)}
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(command, env={**env, **final}, cwd=ROOT, stdout=log, stderr=log)
    try:
        give_up = time.monotonic() + PATIENCE_S
        while not server.healthy(api_url):
            assert process.poll() is None, (home / "log").read_text()
            assert time.monotonic() < give_up
            time.sleep(0.2)
        yield env
    finally:
        process.terminate()
        process.wait(30)


def start(env, store, *program):
    """The demo, or a program that dies while it runs it."""
    command = [sys.executable, *(program or ("-m", "flows.demo")), "--recipe", TINY, "--store", str(store)]
    with (Path(store).parent / f"{Path(store).name}.log").open("ab") as log:
        return subprocess.Popen(command, env=env, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)


def finish(process, store):
    """Wait for a good end; whatever happens, nothing of the process group is left."""
    try:
        code = process.wait(PATIENCE_S)
    finally:
        destroy(process)
    assert code == 0, log_of(store)


def log_of(store):
    return (Path(store).parent / f"{Path(store).name}.log").read_text()[-4000:]


def destroy(process):
    family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(30)
    psutil.wait_procs(family, timeout=30)


def fingerprints(store):
    """Kind -> content fingerprints of all that is published; digests of recipes, which hold the seed, stay out."""
    opened = open_or_create(str(store))
    return {kind: sorted(entry.fingerprint for entry in opened.log(kind)) for kind in get_args(Kind)}


def unfinished(store):
    """Folders of versions that have a plan but no manifest."""
    return [plan.parent for plan in Path(store).rglob("plan.json") if not (plan.parent / "manifest.json").exists()]


def plans(store):
    """How many versions were begun."""
    return len(list(Path(store).glob("v/*/*/plan.json")))


def run_without_server(store, *options):
    """The same recipe by `lightgen run`, which starts in a third of the time and must come to the same."""
    command = [sys.executable, "-m", "lightgen.cli", "run", TINY, "--store", str(store), *options]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stdout + done.stderr
    return store


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """Store of a run left alone."""
    return run_without_server(tmp_path_factory.mktemp("whole") / "store")


def test_killed_three_times_gives_the_same_fingerprints(environment, uninterrupted, tmp_path, record_property):
    rng, store, midway = random.Random(20), tmp_path / "store", []
    third = (plans(uninterrupted) - 1) // KILLS
    for nth in range(KILLS):
        # Moments are told by what is begun, not by the clock: they are the same however busy the machine is.
        begun, later = nth * third + rng.randint(1, third), rng.randint(0, 5)
        process = start(
            environment, store, "-c", COMMAND, str(store), "plan.json", str(begun), str(later), "flows.demo"
        )
        try:
            assert process.wait(PATIENCE_S) == -signal.SIGKILL, log_of(store)
        finally:
            destroy(process)
        midway.append([folder.parent.name for folder in unfinished(store)])
    record_property("stages at work when killed", midway)
    assert all(midway), "a kill hit no stage at work"
    finish(start(environment, store), store)
    assert unfinished(store) == []
    assert violations(store) == []
    assert fingerprints(store) == fingerprints(uninterrupted)


@pytest.mark.long
def test_null_control_another_seed_is_noticed(uninterrupted, tmp_path):
    store = run_without_server(tmp_path / "store", "--set", "seed=8")
    here, there = fingerprints(store), fingerprints(uninterrupted)
    assert {kind for kind in here if here[kind] != there[kind]} >= {"images", "features", "checkpoint", "report"}
