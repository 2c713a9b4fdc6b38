"""One `make serve` for all tests of this folder, and three ways to run a flow under it."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import httpx
import psutil
import pytest
from prefect import Flow
from prefect.client.schemas.objects import State
from prefect.logging.handlers import APILogHandler
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.serve.server import free_port

ROOT = Path(__file__).parents[2]
TINY = "tests/recipes/tiny.yaml"
LOG_SHOWN = 6000  # characters of each log, where a test fails
Found = TypeVar("Found")


def wait_for(what: Callable[[], Found], within_s: float = 240.0, every_s: float = 0.1) -> Found:
    """The first true answer of `what`; the docstring of `what` says what it means if none comes."""
    give_up = time.monotonic() + within_s
    while not (found := what()):
        assert time.monotonic() < give_up, what.__doc__
        time.sleep(every_s)
    return found


@dataclass
class Served:
    """A running `python -m flows.serve` and how to talk to it."""

    process: subprocess.Popen
    api_url: str
    home: Path

    @property
    def log(self) -> str:
        """What it printed."""
        return (self.home / "serve.log").read_text()

    def prefect(self, *arguments: str, **env: str) -> subprocess.CompletedProcess:
        """The `prefect` command as a user types it in the project folder."""
        command = [str(Path(sys.executable).parent / "prefect"), *arguments]
        env = {**os.environ, "PREFECT_API_URL": self.api_url, "COLUMNS": "200", "OMP_NUM_THREADS": "1", **env}
        return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=500)

    def get(self, path: str) -> dict:
        """One thing of Prefect's API."""
        return self._ask("GET", path).json()

    def post(self, path: str, **body: object) -> list[dict] | dict:
        """One question or command to Prefect's API."""
        return self._ask("POST", path, body).json()

    def emit(self, **event: object) -> None:
        """Tell the server of an event."""
        self._ask("POST", "/events", [{"id": str(uuid.uuid4()), **event}])

    def delete(self, path: str) -> None:
        """Delete one thing of Prefect's API."""
        self._ask("DELETE", path)

    def _ask(self, method: str, path: str, body: object = None) -> httpx.Response:
        def answered() -> httpx.Response | None:
            """The server stays busy."""
            answer = httpx.request(method, f"{self.api_url}{path}", json=body, timeout=30)
            return None if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE else answer  # its database is locked

        return wait_for(answered, within_s=60).raise_for_status()

    def start(self, deployment: str, **parameters: object) -> str:
        """Start a deployment, to be run by the worker; returns the id of the flow run."""
        found = self.get(f"/deployments/name/{deployment}/{deployment}")
        return self.post(f"/deployments/{found['id']}/create_flow_run", parameters=parameters)["id"]

    def state(self, flow_run: str) -> dict:
        """State of a flow run now: type, name, message."""
        return self.get(f"/flow_runs/{flow_run}")["state"]

    def run_here(self, flow: Flow, **parameters: object) -> tuple[str, State]:
        """Run a flow in this process, recorded by the server; returns the id of the flow run and its last state."""
        with temporary_settings({PREFECT_API_URL: self.api_url}):
            state = flow(**parameters, return_state=True)
            APILogHandler().flush()
        return str(state.state_details.flow_run_id), state

    def artifacts(self, flow_run: str) -> dict[str, dict]:
        """Artifacts of a flow run by key."""
        chosen = {"flow_run_id": {"any_": [flow_run]}}
        return {one["key"]: one for one in self.post("/artifacts/filter", artifacts=chosen, limit=200)}

    def lines(self, flow_run: str) -> list[dict]:
        """Log lines of a flow run, oldest first: name, level, message."""
        return self.post("/logs/filter", logs={"flow_run_id": {"any_": [flow_run]}}, sort="TIMESTAMP_ASC", limit=200)


@pytest.fixture(scope="session")
def served(tmp_path_factory):
    home, port = tmp_path_factory.mktemp("prefect"), free_port()
    env = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    env |= {"OMP_NUM_THREADS": "1", "LIGHTGEN_STORE": str(home / "store"), "PREFECT_WORKER_QUERY_SECONDS": "1"}
    with (home / "serve.log").open("wb") as sink:
        command = [sys.executable, "-m", "flows.serve", "--port", str(port), "--home", str(home)]
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=sink, stderr=sink, start_new_session=True)
    one = Served(process, f"http://127.0.0.1:{port}/api", home)

    def ready():
        """`make serve` is not ready."""
        assert process.poll() is None, one.log
        return "is served at" in one.log

    try:
        wait_for(ready, within_s=400)
        yield one
    finally:
        children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.send_signal(signal.SIGINT)
        process.wait(60)
        for child in children:
            child.is_running() and child.kill()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that fails shows what the server printed: much of it happens in other processes."""
    report = yield
    one = getattr(item, "funcargs", {}).get("served")
    if report.failed and one is not None:
        for log in sorted(one.home.glob("*.log")):
            report.sections.append((log.name, log.read_text(errors="replace")[-LOG_SHOWN:]))
    return report


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist looks for groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All that use the server run on one worker of pytest-xdist; those that stop it run last."""
    for item in items:
        if "served" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("serve"))
    items.sort(key=lambda item: item.get_closest_marker("stops_server") is not None)
