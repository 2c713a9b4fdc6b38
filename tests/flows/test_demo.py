"""`python -m flows.demo`: its options, and that nothing outlives it."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from flows.serve import server
from tests.flows.conftest import wait_for
from tests.processes import ended

ROOT = Path(__file__).parents[2]
TINY = "tests/recipes/tiny.yaml"


def _demo(*options: str, **popen: Any) -> subprocess.Popen[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    env |= {"OMP_NUM_THREADS": "1", "PREFECT_API_URL": f"http://127.0.0.1:{server.free_port()}/api"}
    return subprocess.Popen([sys.executable, "-m", "flows.demo", *options], cwd=ROOT, env=env, text=True, **popen)


@pytest.mark.parametrize("how", ["environment", "argument"])
def test_make_demo_leaves_the_choice_of_the_store_to_lightgen_store(tmp_path, how):
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin" / "python"
    python.write_text('#!/bin/sh\necho "$@"\necho "$LIGHTGEN_STORE"\n')
    python.chmod(0o755)
    (tmp_path / ".installed").touch()
    chosen = "LIGHTGEN_STORE=s3://ours/store"
    before = ["env", chosen] if how == "environment" else []
    after = [chosen] if how == "argument" else []
    # Under `make test` a make is around this one, of which it would speak.
    alone = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    command = [*before, "make", "demo", f"VENV={tmp_path}", *after]
    made = subprocess.run(command, cwd=ROOT, env=alone, capture_output=True, text=True, check=True)
    assert made.stdout.splitlines()[-2:] == ["-m flows.demo", "s3://ours/store"]


def test_wrong_recipe_is_refused_at_once_and_in_one_line():
    demo = _demo("--recipe", TINY, "--set", "generate.size=3", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    _, said = demo.communicate(timeout=120)
    assert demo.returncode != 0
    assert "generate.size" in said
    assert "Traceback" not in said


def test_a_missing_file_is_told_once_before_a_server_starts(tmp_path):
    (tmp_path / "mine.yaml").write_text(
        "name: mine\nsource: {corpora: [{kind: text, path: nowhere.txt, source: me}]}\n"
    )
    options = ("--recipe", str(tmp_path / "mine.yaml"), "--store", str(tmp_path / "store"))
    demo = _demo(*options, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    printed, said = demo.communicate(timeout=120)
    assert demo.returncode != 0
    assert (printed, said.count("nowhere.txt:"), said.count("watch it at")) == ("", 1, 0)
    assert "correct the recipe" in said
    assert "goes on where" not in said


@pytest.mark.slow
def test_killed_process_group_leaves_nothing(tmp_path):
    demo = _demo("--recipe", TINY, "--store", str(tmp_path), start_new_session=True)

    def started():
        """No process was started."""
        assert demo.poll() is None
        return psutil.Process(demo.pid).children(recursive=True)

    family = wait_for(started)
    os.killpg(demo.pid, signal.SIGKILL)
    demo.wait(10)

    def over():
        """Processes of the demo are left."""
        return all(map(ended, family))

    wait_for(over, within_s=60)
