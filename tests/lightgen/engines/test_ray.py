"""The engine `ray` on a real cluster of three nodes, one of which is killed."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from lightgen.engines.ray import Ray
from lightgen.errors import ConfigError
from lightgen.storage.store import open_or_create
from lightgen.work import Context, RunConfig
from tests.conftest import free_port
from tests.lightgen.engines.notes import NotesConfig, marked, notes
from tests.lightgen.engines.pictures import pictures, prompts
from tests.lightgen.engines.test_engines import ROOT, await_begun, joined, told

pytest.importorskip("ray", reason="the extra [ray] is not installed")
pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.timeout(300)]
QUIET = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}


@dataclass(frozen=True)
class Cluster:
    """Three nodes of one core each on this machine."""

    address: str
    nodes: "list[subprocess.Popen[str]]"

    @property
    def run(self) -> str:
        """How to run on it."""
        return RunConfig(engine="ray", address=self.address).model_dump_json()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    folder, port = tempfile.mkdtemp(prefix="ray", dir="/tmp"), free_port()  # sockets have short names
    address = f"127.0.0.1:{port}"
    nodes = [started("--head", f"--port={port}", f"--temp-dir={folder}", "--include-dashboard=false")]
    try:
        with ThreadPoolExecutor() as pool:
            nodes += pool.map(started, [f"--address={address}"] * 2)
        yield Cluster(address, nodes)
    finally:
        for one in nodes:
            end(one)
        shutil.rmtree(folder, ignore_errors=True)


def started(*arguments: str, tries: int = 3) -> "subprocess.Popen[str]":
    """A node that runs; again where a busy machine did not let it start within the half minute that Ray gives it."""
    ray = Path(sys.executable).parent / "ray"
    process = subprocess.Popen(
        [ray, "start", *arguments, "--node-ip-address=127.0.0.1", "--num-cpus=1", "--block", "--disable-usage-stats"],
        cwd=ROOT, env=os.environ | QUIET | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip
    assert process.stdout is not None
    lines: list[str] = []
    while lines[-1:] != [""]:
        lines.append(process.stdout.readline())
        if "Ray runtime started" in lines[-1]:
            return process
    end(process)
    assert tries > 1, "".join(lines)
    return started(*arguments, tries=tries - 1)


def end(node: "subprocess.Popen[str]") -> None:
    """Kill a node with all that it started."""
    for process in psutil.Process(node.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            process.kill()
    node.kill()
    node.wait()


def raylet(of: "subprocess.Popen[str]") -> psutil.Process:
    return next(child for child in psutil.Process(of.pid).children(recursive=True) if child.name() == "raylet")


def result(driver: "subprocess.Popen[str]") -> str:
    """The one line that is its own: Ray and its raylets write to the same place, also after it."""
    (own,) = [line for line in told([driver])[0].splitlines() if re.fullmatch("[0-9a-f]{64}", line)]
    return own


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in QUIET.items():
        monkeypatch.setenv(name, value)


def test_the_stage_generate_is_the_same_on_a_cluster(tmp_path, cluster):
    context = Context(open_or_create(str(tmp_path / "serial")))
    expected = pictures(context, prompts(context)).fingerprint
    open_or_create(str(tmp_path / "ray"))
    assert result(joined("pictures", tmp_path / "ray", cluster.run)) == expected


def test_an_error_of_a_stage_comes_back_as_it_is(tmp_path, cluster):
    open_or_create(str(tmp_path))
    driver = joined("notes", tmp_path, cluster.run, NotesConfig(fails=(1,)).model_dump_json())
    _, stderr = driver.communicate(timeout=120)
    assert driver.returncode != 0
    assert "InputCorrupt: shard 1 cannot be read" in stderr


def test_an_address_belongs_to_a_cluster():
    with pytest.raises(ValueError, match="address is that of a Ray cluster"):
        RunConfig(engine="processes", address="127.0.0.1:1")
    with pytest.raises(ConfigError, match=r"ray://.* use the address host:port"):
        Ray(RunConfig(engine="ray", address="ray://127.0.0.1:10001"))


def test_three_nodes_make_what_one_process_makes_though_one_is_killed(tmp_path, cluster):
    store, marks = tmp_path / "store", tmp_path / "marks"
    marks.mkdir()
    open_or_create(str(store))
    config = NotesConfig(shards=12, seconds=0.8, marks=str(marks), workers=3)
    expected = notes(NotesConfig(shards=12), Context(open_or_create(str(tmp_path / "q"))))
    driver = joined("notes", store, cluster.run, config.model_dump_json())
    await_begun(marks, [driver], count=3)
    raylet(cluster.nodes[2]).kill()
    killed_at = time.monotonic()
    assert result(driver) == expected.fingerprint
    assert set(marked(marks, "ended")) == {f"{shard:05d}" for shard in range(12)}
    assert time.monotonic() - killed_at < 60, "the engine hears of the death: no claim waits for two minutes"
    assert not [*store.glob("v/*/*/claims/*"), *store.glob("v/*/*/workers/*")]
