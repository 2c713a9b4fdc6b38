"""`make serve` and the commands typed against it: a real server, a real worker, nothing stubbed. Tests run in order."""

import json
import signal
import time
from pathlib import Path

import psutil
import pytest

from lightgen.storage.store import open_or_create

TINY = "tests/recipes/tiny.yaml"
TEMPLATE = Path(__file__).parents[2] / "deploy/k8s-base-job-template.json"
STAGES = ("source-train", "select-train", "generate-train", "dedup", "fit-vae", "encode-16px", "encode-32px")
BROKEN = json.dumps(
    {"source.corpora": [{"kind": "jsonl", "path": "tests/nowhere.jsonl", "source": "none", "licence": "none"}]}
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def built(served):
    """`prefect deployment run build-distill-set`, to its end."""
    return served.run("build-distill-set", recipe=TINY)


def test_typed_command_runs_to_completed_and_leaves_figures_and_pages(served, built):
    flow_run, state = built
    assert state["type"] == "COMPLETED", served.log.read_text()
    artifacts = served.artifacts(flow_run)
    for stage in STAGES:
        figures = artifacts[f"{stage}-figures"]["data"]
        assert ('"tensors"' if stage == "fit-vae" else '"rows in"') in figures
        assert '"version"' in figures
        assert f"## {stage}" in artifacts[f"{stage}-page"]["data"]
        assert artifacts[f"{stage}-progress"]["data"] == 100.0
    assert artifacts["generate-train-page"]["data"].count("![](data:image/webp;base64,") == 18
    assert "lightgen gallery images@" in artifacts["generate-train-page"]["data"]


def test_log_lines_of_the_library_are_in_the_run(served, built):
    lines = served.post("/logs/filter", logs={"flow_run_id": {"any_": [built[0]]}}, limit=200)
    assert {line["name"] for line in lines} >= {"lightgen.encoders.fit", "tasks.run"}


def test_without_the_plugin_the_typed_command_is_refused(served):
    done = served.prefect("deployment", "run", "build-distill-set", PREFECT_PLUGINS_ENABLED="false")
    assert done.returncode != 0
    assert "Invalid deployment name format" in done.stdout + done.stderr


def test_nearly_a_name_is_refused_with_advice_and_the_long_name_works(served):
    wrong = served.prefect("deployment", "run", "build-set")
    assert wrong.returncode != 0
    assert "did you mean" in wrong.stderr
    assert "Traceback" not in wrong.stderr
    assert served.prefect("deployment", "inspect", "retrain/retrain").returncode == 0


def test_failed_stage_says_what_to_do(served):
    flow_run, state = served.run("build-distill-set", recipe=TINY, overrides=BROKEN)
    assert state["type"] == "FAILED"
    assert "nowhere.jsonl" in state["message"]
    advice = served.artifacts(flow_run)["what-to-do"]["data"]
    assert "nowhere.jsonl" in advice
    assert "What to do:" in advice


def test_retraining_works_only_on_new_captions(served):
    first, trained = served.run("retrain", recipe=TINY)
    assert trained["type"] == "COMPLETED", served.log.read_text()
    assert '"last loss"' in served.artifacts(first)["pretrain-32px-figures"]["data"]
    assert "![](data:image/svg+xml;base64," in served.artifacts(first)["pretrain-32px-page"]["data"]
    assert "found sealed" in served.artifacts(first)["encode-32px-figures"]["data"]
    again, idle = served.run("retrain", recipe=TINY)
    assert (idle["type"], idle["message"][:11]) == ("COMPLETED", "nothing new")
    assert "pretrain-32px-figures" not in served.artifacts(again)
    store = open_or_create(str(Path(served.log).parent / "store"))
    assert len(store.log("checkpoint")) == 2


def test_pairs_of_the_students_own_need_no_teacher(served):
    own = json.dumps({"pair.winner": "student", "pair.samples_per_prompt": 2})
    flow_run, state = served.run("build-dpo-set", recipe=TINY, overrides=own)
    assert state["type"] == "COMPLETED", served.log.read_text()
    artifacts = served.artifacts(flow_run)
    figures = {line["what"]: line["value"] for line in json.loads(artifacts["pair-figures"]["data"])}
    assert (figures["rows out"], figures["rejected"]) == ("0", "12"), "a student of three steps is never right"
    assert "select-held-out-figures" in artifacts
    assert "generate-held-out-figures" not in artifacts


def test_server_takes_the_template_for_kubernetes_and_refuses_a_broken_one(served, tmp_path):
    kubernetes = ("--type", "kubernetes", "--base-job-template")
    made = served.prefect("work-pool", "create", "gpus", *kubernetes, str(TEMPLATE))
    assert made.returncode == 0, made.stdout + made.stderr
    broken = tmp_path / "broken.json"
    broken.write_text(TEMPLATE.read_text().replace("{{ shm_size }}", "{{ shm_sise }}"))
    refused = served.prefect("work-pool", "create", "broken", *kubernetes, str(broken))
    assert refused.returncode != 0
    assert "shm_sise" in refused.stdout + refused.stderr


def test_ctrl_c_stops_server_worker_and_run(served):
    done = served.prefect(
        "deployment",
        "run",
        "train-student",
        "--param",
        f"recipe={TINY}",
        "--param",
        'overrides={"pretrain.0.loop.steps": 100000, "pretrain.0.loop.checkpoint_every": 100000}',
    )
    assert done.returncode == 0, done.stderr
    give_up = time.monotonic() + 90
    while not _working(family := psutil.Process(served.process.pid).children(recursive=True)):
        assert time.monotonic() < give_up
        time.sleep(0.5)
    served.process.send_signal(signal.SIGINT)
    assert served.process.wait(60) == 0
    assert [process for process in family if process.is_running() and process.status() != psutil.STATUS_ZOMBIE] == []
    assert "everything is stopped" in served.log.read_text()


def _working(family: list[psutil.Process]) -> bool:
    return any("prefect.engine" in " ".join(_command(process)) for process in family)


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []
