"""What the hub says of a commit, asked of a server of its own on this machine, or of none."""

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from lightgen.encoders.tiny import tiny_t5

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


# What `plan` says of text encoders.
PLANNING = """
import json, sys
from lightgen.config import problems_of
from lightgen.encoders.t5 import T5Config
models = [T5Config.model_validate(model) for model in json.loads(sys.argv[1])]
print(json.dumps([[problem.what for problem in problems_of(model)] for model in models]))
"""


@pytest.fixture
def hub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def planned(endpoint: str, cache: Path, *models: dict[str, str]) -> list[list[str]]:
    environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HUB_CACHE": str(cache), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PLANNING, json.dumps(models)]
    return json.loads(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)


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


def test_what_the_cache_has_of_a_model_in_part_is_fetched_when_it_is_opened(hub: str, tmp_path: Path) -> None:
    """The stage that counts tokens fetches a tokenizer, so the commit of the text encoder is there without weights."""
    parts = {"owner/open": "", "owner/words": "*.safetensors", "owner/weights": "*token*", "owner/empty": "*"}
    folders = {name: tmp_path / f"models--{name.replace('/', '--')}" / "snapshots" / THERE for name in parts}
    for name, missing in parts.items():
        tiny_t5(folders[name])
        for file in folders[name].glob(missing) if missing else ():
            file.unlink()
    models = [{"model": name, "revision": THERE} for name in parts]
    assert planned(hub, tmp_path, *models) == [[], [], [], []]
    whole, *away = planned("http://127.0.0.1:1", tmp_path, *models)
    assert whole == []
    for name, (told,) in zip(list(parts)[1:], away, strict=True):
        assert f"model {name} is only in part on this machine: the hub cannot be reached" in told
    (local,) = planned(hub, tmp_path, {"model": str(folders["owner/words"])})
    assert [str(folders["owner/words"]) in told for told in local] == [True], "nobody fetches into a folder"


def test_a_whole_copy_in_the_cache_that_lacks_weights_is_refused(hub: str, tmp_path: Path) -> None:
    folder = tmp_path / "models--owner--open" / "snapshots" / THERE
    file = next(tiny_t5(folder).glob("*.safetensors"))
    kept = {name: tensor.clone() for name, tensor in load_file(file).items() if "SelfAttention.q" not in name}
    save_file(kept, file, {"format": "pt"})
    ((found,),) = planned(hub, tmp_path, {"model": "owner/open", "revision": THERE})
    assert "are in none of its files" in found
