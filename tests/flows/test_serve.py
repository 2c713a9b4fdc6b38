"""`make serve` and the commands typed against it: a real server, a real worker, nothing stubbed."""

import json
import os
import re
import signal
import subprocess
import sys

import httpx
import psutil
import pytest

from flows.build_dpo_set import build_dpo_set
from flows.retrain import retrain
from lightgen.storage.store import open_store
from tests.flows.conftest import ROOT, TINY, wait_for
from tests.processes import ended

TEMPLATE = json.loads((ROOT / "deploy/k8s-base-job-template.json").read_text())
STEPS = ("source", "select", "generate", "score-pixels", "filter", "fit-vae", "texts", "encode-16px", "encode-32px")
BROKEN = json.dumps(
    {"source.corpora": [{"kind": "jsonl", "path": "tests/nowhere.jsonl", "source": "none", "licence": "none"}]}
)

# Flow `retrain`, whose machine is lost before the second resolution.
KILLED = """
import os, signal, sys
from flows.retrain import retrain
from tasks import stages

make = stages.make

def until_the_second(step, refs, context):
    if step.name == "pretrain-32px":
        os.kill(os.getpid(), signal.SIGKILL)
    return make(step, refs, context)

stages.make = until_the_second
retrain(sys.argv[1], store=sys.argv[2])
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def typed(served, deployment, **parameters):
    """`prefect deployment run DEPLOYMENT --watch`: the id of the run, its last state, and what the terminal shows."""
    given = [word for name, value in parameters.items() for word in ("--param", f"{name}={value}")]
    done = served.prefect("deployment", "run", deployment, *given, "--watch")
    said = done.stdout + done.stderr
    found = re.search(r"UUID: ([0-9a-f-]{36})", said)
    assert found, said
    return found[1], served.state(found[1]), said


@pytest.fixture(scope="module")
def built(served):
    """The id of a run of `build-distill-set` in the store of the worker."""
    flow_run, state, _ = typed(served, "build-distill-set", recipe=TINY)
    assert state["type"] == "COMPLETED", served.log
    return flow_run


@pytest.fixture(scope="module")
def store(served, built):
    """Address of the store that the worker used: it holds the training set of the tiny recipe."""
    return str(served.home / "store")


def test_typed_command_runs_to_completed_and_leaves_figures_and_pages(served, built):
    artifacts = served.artifacts(built)
    for step in STEPS:
        figures = artifacts[f"{step}-figures"]["data"]
        assert ('"tensors"' if step == "fit-vae" else '"rows in"') in figures
        assert '"version"' in figures
        assert f"## {step}" in artifacts[f"{step}-page"]["data"]
        assert artifacts[f"{step}-progress"]["data"] == 100.0
    assert artifacts["generate-page"]["data"].count("![](data:image/webp;base64,") == 18
    assert "lightgen gallery images@" in artifacts["generate-page"]["data"]


def test_log_lines_of_the_library_are_in_the_run_and_the_store_comes_first(served, built, store):
    def told():
        """The lines of the library did not come."""
        lines = served.lines(built)
        return {line["name"] for line in lines} >= {"lightgen.encoders.fit", "tasks.run"} and lines

    first = next(line for line in wait_for(told) if line["name"] == "tasks.run")
    assert first["message"] == f"source: store {store}"


def test_without_the_plugin_the_typed_command_is_refused(served):
    done = served.prefect("deployment", "run", "build-distill-set", PREFECT_PLUGINS_ENABLED="false")
    assert done.returncode != 0
    assert "Invalid deployment name format" in done.stdout + done.stderr


def test_nearly_a_name_is_refused_with_advice_and_the_long_name_works(served):
    wrong = served.prefect("deployment", "run", "build-set")
    assert wrong.returncode != 0
    assert "did you mean" in wrong.stderr
    assert "Traceback" not in wrong.stderr
    whole = served.prefect("deployment", "inspect", "retrain/retrain")
    assert whole.returncode == 0, whole.stdout + whole.stderr


def test_a_typed_command_that_fails_ends_with_the_reason(served):
    flow_run, state, said = typed(served, "build-distill-set", recipe=TINY, overrides=BROKEN)
    assert (state["type"], "nowhere.jsonl" in state["message"]) == ("FAILED", True)
    assert "Traceback" not in said
    end = "would fail before its end"
    assert said.index("nowhere.jsonl", said.index("Beginning flow run")) > said.index(end)

    def told():
        """The log does not say why it failed."""
        lines = [line["message"] for line in served.lines(flow_run)]
        return any("What to do:" in line for line in lines) and any(end in line for line in lines) and "\n".join(lines)

    # Not by what was typed: on a busy machine lines may come later than the terminal of Prefect waits for them.
    shown = wait_for(told)
    assert "Traceback" not in shown
    assert shown.index("check: store") < shown.index("What to do:") < shown.rindex("nowhere.jsonl")


def test_retraining_goes_on_after_a_kill_and_then_waits_for_new_captions(served, store):
    command = [sys.executable, "-c", KILLED, TINY, store]
    killed = subprocess.run(command, cwd=ROOT, env={**os.environ, "PREFECT_API_URL": served.api_url}, timeout=200)
    assert killed.returncode == -signal.SIGKILL
    assert len(open_store(store).log("checkpoint")) == 1, "it was killed between two resolutions"
    second, trained = served.run_here(retrain, recipe=TINY, store=store)
    assert trained.is_completed()
    assert "goes on: 1 of 2 resolutions" in " ".join(line["message"] for line in served.lines(second))
    artifacts = served.artifacts(second)
    assert '"last loss"' in artifacts["pretrain-32px-figures"]["data"]
    assert "![](data:image/svg+xml;base64," in artifacts["pretrain-32px-page"]["data"]
    assert "found sealed" in artifacts["pretrain-16px-figures"]["data"]
    for captions in (48, 40):  # the second time some are gone
        third, idle = served.run_here(retrain, recipe=TINY, store=store, overrides={"source.corpora.0.count": captions})
        assert (idle.is_completed(), idle.message[:11]) == (True, "nothing new")
        assert "pretrain-32px-figures" not in served.artifacts(third)
    assert len(open_store(store).log("checkpoint")) == 2


def test_pairs_of_the_students_own_need_no_teacher(served, store):
    own = {"pair.winner": "student", "pair.samples_per_prompt": 2}
    flow_run, state = served.run_here(build_dpo_set, recipe=TINY, overrides=own, store=store)
    assert state.is_completed()
    artifacts = served.artifacts(flow_run)
    figures = {line["what"]: line["value"] for line in json.loads(artifacts["pair-figures"]["data"])}
    assert (figures["rows out"], figures["rejected"]) == ("0", "12"), "a student of three steps is never right"
    assert "select-held-out-figures" in artifacts
    assert "generate-held-out-student-figures" in artifacts
    assert "generate-held-out-teacher-figures" not in artifacts


def test_server_takes_the_template_for_kubernetes_and_refuses_a_broken_one(served):
    pool = {"name": "gpus", "type": "kubernetes", "base_job_template": TEMPLATE}
    assert served.post("/work_pools/", **pool)["base_job_template"] == TEMPLATE
    broken = json.loads(json.dumps(TEMPLATE).replace("{{ shm_size }}", "{{ shm_sise }}"))
    with pytest.raises(httpx.HTTPStatusError) as refused:
        served.post("/work_pools/", **{**pool, "name": "broken", "base_job_template": broken})
    assert "shm_sise" in refused.value.response.text


@pytest.mark.stops_server
def test_ctrl_c_stops_server_worker_and_run(served):
    long = {"pretrain.0.loop.steps": 100_000, "pretrain.0.loop.checkpoint_every": 100_000}
    served.start("train-student", recipe=TINY, overrides=long)

    def family():
        """No flow run has started."""
        running = psutil.Process(served.process.pid).children(recursive=True)
        return running if any("prefect.engine" in " ".join(_command(one)) for one in running) else []

    members = wait_for(family)
    served.process.send_signal(signal.SIGINT)
    assert served.process.wait(60) == 0
    assert [one for one in members if not ended(one)] == []
    assert "everything is stopped" in served.log


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []
