"""One `make serve` for all tests of this folder."""

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from flows.serve.server import free_port

ROOT = Path(__file__).parents[2]
TINY = "tests/recipes/tiny.yaml"


@dataclass
class Served:
    """A running `python -m flows.serve` and how to talk to it."""

    process: subprocess.Popen
    api_url: str
    log: Path

    def prefect(self, *arguments: str, **env: str) -> subprocess.CompletedProcess:
        """The `prefect` command as a user types it in the project folder."""
        command = [str(Path(sys.executable).parent / "prefect"), *arguments]
        env = {**os.environ, "PREFECT_API_URL": self.api_url, "COLUMNS": "200", "OMP_NUM_THREADS": "1", **env}
        return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=500)

    def post(self, path: str, **body: object) -> list[dict]:
        """One question to Prefect's API."""
        answer = httpx.post(f"{self.api_url}{path}", json=body, timeout=30)
        answer.raise_for_status()
        return answer.json()

    def run(self, deployment: str, **parameters: str) -> tuple[str, dict]:
        """Run a deployment to its end through the worker; returns the run's id and final state."""
        given = [word for name, value in parameters.items() for word in ("--param", f"{name}={value}")]
        done = self.prefect("deployment", "run", deployment, *given, "--watch")
        found = re.search(r"UUID: ([0-9a-f-]{36})", done.stdout)
        assert found, done.stdout + done.stderr
        (flow_run,) = self.post("/flow_runs/filter", flow_runs={"id": {"any_": [found[1]]}})
        return found[1], flow_run["state"]

    def artifacts(self, flow_run: str) -> dict[str, dict]:
        """Artifacts of a flow run by key."""
        chosen = {"flow_run_id": {"any_": [flow_run]}}
        return {one["key"]: one for one in self.post("/artifacts/filter", artifacts=chosen, limit=200)}


@pytest.fixture(scope="session")
def served(tmp_path_factory):
    home = tmp_path_factory.mktemp("prefect")
    port, log = free_port(), home / "serve.log"
    env = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    with log.open("wb") as sink:
        command = [sys.executable, "-m", "flows.serve", "--port", str(port), "--home", str(home)]
        env = {**env, "OMP_NUM_THREADS": "1", "LIGHTGEN_STORE": str(home / "store")}
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=sink, stderr=sink, start_new_session=True)
    try:
        give_up = time.monotonic() + 400
        while b"is served at" not in log.read_bytes():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < give_up, log.read_text()
            time.sleep(0.5)
        yield Served(process, f"http://127.0.0.1:{port}/api", log)
    finally:
        children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.send_signal(signal.SIGINT)
        process.wait(60)
        for child in children:
            child.is_running() and child.kill()
