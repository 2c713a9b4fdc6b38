"""What the hub says of a commit, asked of a server of its own on this machine, or of none."""

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
THERE, ABSENT = "a" * 40, "b" * 40
ASKING = """
import json, sys
from lightgen.storage.hub import refusal
print(json.dumps([refusal(*pair) for pair in json.loads(sys.argv[1])]))
"""


class Hub(BaseHTTPRequestHandler):
    """Knows `owner/open` and `owner/gated`, each with one commit."""

    def do_GET(self) -> None:
        parts = self.path.strip("/").split("/")
        if parts[:2] != ["api", "models"]:
            return self._answer(200, {})
        name, rest = "/".join(parts[2:4]), parts[4:]
        if name == "owner/none":
            return self._answer(404, {"error": "Repository not found"}, "RepoNotFound")
        if rest[:1] == ["revision"] and rest[1] != THERE:
            return self._answer(404, {"error": "Invalid rev id"}, "RevisionNotFound")
        if rest == ["auth-check"] and name == "owner/gated":
            return self._answer(403, {"error": "Access to it is restricted"}, "GatedRepo")
        return self._answer(200, {"id": name, "sha": THERE, "siblings": []})

    do_HEAD = do_GET

    def _answer(self, status: int, body: dict, code: str = "") -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if code:
            self.send_header("X-Error-Code", code)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def hub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def asked(endpoint: str, *pairs: tuple[str, str], **settings: str) -> list[str]:
    environment = {**os.environ, "HF_ENDPOINT": endpoint, "PYTHONPATH": str(ROOT), **settings}
    command = [sys.executable, "-c", ASKING, json.dumps(pairs)]
    return json.loads(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)


def test_a_commit_is_there_or_refused_for_a_reason(hub: str) -> None:
    there, absent, gated, none = asked(
        hub, ("owner/open", THERE), ("owner/open", ABSENT), ("owner/gated", THERE), ("owner/none", THERE)
    )
    assert there == ""
    assert "refuses" in absent
    assert "licence" in gated
    assert "refuses" in none


def test_a_hub_that_nobody_reaches_says_nothing_of_commits(hub: str) -> None:
    unreached = "the hub cannot be reached from here"
    assert asked("http://127.0.0.1:9", ("owner/open", THERE), ("owner/gated", THERE)) == [unreached] * 2
    assert asked(hub, ("owner/open", THERE), HF_HUB_OFFLINE="1") == [unreached]
