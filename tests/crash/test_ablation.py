"""`lightgen ablate`, killed with SIGKILL in the middle and started again: it ends, and makes nothing twice."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.crash.invariants import violations
from tests.crash.kills import COMMAND

ROOT = Path(__file__).parents[2]
TINY, PATIENCE_S = "tests/recipes/tiny.yaml", 400.0
ONE_SEED = """
name: tiny
title: Tokens an iteration, in small
seeds: [7]
set: {pair: null, align: null, control: null, evaluate.models: {}, evaluate.untrained: false}
variants:
  - {name: two, set: {evaluate.sample.iterations: 2}}
  - {name: all, set: {evaluate.sample.iterations: 1}}
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def variants(tmp_path_factory):
    path = tmp_path_factory.mktemp("variants") / "tiny.yaml"
    path.write_text(ONE_SEED)
    return path


def start(variants, store, *program):
    """`lightgen ablate`, or a program that dies while it runs it."""
    command = [sys.executable, *(program or ("-m", "lightgen.cli"))]
    command += ["ablate", TINY, str(variants), "--store", str(store)]
    log = store.parent / f"{store.name}.log"
    with log.open("w") as sink:
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        return log, subprocess.Popen(command, env=env, cwd=ROOT, stdout=sink, stderr=sink, start_new_session=True)


def finish(variants, store):
    """What the command printed."""
    log, process = start(variants, store)
    try:
        assert process.wait(PATIENCE_S) == 0, log.read_text()[-4000:]
    finally:
        destroy(process)
    return log.read_text()


def destroy(process):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(30)


def written(store, pattern):
    """Files of versions by name: what would change if one were made again."""
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in store.glob(f"v/*/*/{pattern}")}


def left(printed):
    found = re.search(r"2 runs; left: (\d+) steps", printed)
    assert found, printed[-2000:]
    return int(found[1])


def figures(store):
    """Figures without what tells one run from another: seconds."""
    return {**json.loads((store / "pages/ablation-tiny.json").read_text()), "seconds": None}


@pytest.fixture(scope="module")
def whole(variants, tmp_path_factory):
    """(store, steps) of an ablation left alone."""
    store = tmp_path_factory.mktemp("whole") / "store"
    return store, left(finish(variants, store))


@pytest.mark.parametrize("share", [0.35, pytest.param(0.85, marks=pytest.mark.long)])
def test_killed_in_the_middle_it_goes_on_and_makes_nothing_twice(whole, variants, tmp_path, share):
    quiet, steps = whole
    store, kill_at = tmp_path / "store", int(share * steps)
    # The moment is told by what is sealed, not by the clock: it is the same however busy the machine is.
    log, process = start(variants, store, "-c", COMMAND, str(store), "manifest.json", str(kill_at), "6", "lightgen.cli")
    try:
        assert process.wait(PATIENCE_S) == -signal.SIGKILL, log.read_text()[-4000:]
    finally:
        destroy(process)
    assert not (store / "pages").exists(), "no page is drawn of a part"
    sealed, shards = written(store, "manifest.json"), written(store, "done/*.json")
    assert kill_at <= len(sealed) < steps
    assert left(finish(variants, store)) == steps - len(sealed)
    for before, pattern in ((sealed, "manifest.json"), (shards, "done/*.json")):
        after = written(store, pattern)
        assert {path: after.get(path) for path in before} == before, "made twice"
    assert len(written(store, "manifest.json")) == steps
    assert violations(store) == []
    assert figures(store) == figures(quiet)


def test_null_control_work_that_is_done_twice_is_noticed(whole):
    store, steps = whole
    before = written(store, "manifest.json")
    assert len(before) == steps
    path, data = next(iter(before)), next(iter(before)).read_bytes()
    path.unlink()
    path.write_bytes(data)
    assert written(store, "manifest.json") != before
