"""One Prefect server on loopback as a child of this process."""

import atexit
import os
import socket
import sys
import time
from pathlib import Path

import httpx
from prefect.context import refresh_global_settings_context

from flows.serve import children

ROOT = Path(__file__).parents[2]
HOME = ROOT / ".prefect"
LOOPBACK = "127.0.0.1"
APP = "prefect.server.api.server:create_app"


class ServerDidNotStart(RuntimeError):
    """The server ended or stayed silent; the message shows where its log lies."""


def healthy(api_url: str, timeout_s: float = 2.0) -> bool:
    """True if a Prefect server answers at `api_url`."""
    try:
        return httpx.get(f"{api_url}/health", timeout=timeout_s).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return probe.getsockname()[1]


def taken(port: int) -> bool:
    """True if something listens on `port` of loopback."""
    with socket.socket() as probe:
        return probe.connect_ex((LOOPBACK, port)) == 0


def connect(api_url: str, home: Path) -> None:
    """Make `api_url` the server of this process and its children, whatever `prefect.toml` says."""
    os.environ.update(environment(api_url, home))  # noqa: TID251 - written, not read: threads and children see it too
    refresh_global_settings_context()


def environment(api_url: str, home: Path) -> dict[str, str]:
    """What the server, its worker and its command line share; nothing is sent to anybody."""
    return {
        "PREFECT_API_URL": api_url,
        "PREFECT_HOME": str(home),
        "PREFECT_UI_API_URL": "/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "DO_NOT_TRACK": "1",
    }


def start(home: Path, port: int, host: str = LOOPBACK, wait_s: float = 300.0) -> str:
    """Start a server and wait until it answers; returns the address of its API. Raises ServerDidNotStart."""
    home.mkdir(parents=True, exist_ok=True)
    api_url, log_file = f"http://{LOOPBACK}:{port}/api", home / "server.log"
    factory = ["--factory", APP, "--host", host, "--port", str(port), "--log-level", "warning"]
    env = {**environment(api_url, home), "PREFECT__SERVER_FINAL": "1", "PREFECT_SERVER_API_PORT": str(port)}
    process = children.spawn([sys.executable, "-m", "uvicorn", *factory], env, ROOT, log_file)
    give_up = time.monotonic() + wait_s
    while not healthy(api_url):
        if process.poll() is not None or time.monotonic() > give_up:
            raise ServerDidNotStart(
                f"the Prefect server did not start (exit status {process.poll()}); its log: {log_file}"
            )
        time.sleep(0.2)
    return api_url


def start_private(home: Path = HOME) -> str:
    """A server on a free port, stopped when this process exits, after Prefect has sent its last lines and events."""
    atexit.register(children.stop_all, lambda command: APP in command)
    return start(home, free_port())
