"""Spelling out the names of our deployments, and nothing else."""

import pytest
import yaml

from flows.serve import plugin
from flows.serve.plugin import expand

FULL = "build-distill-set/build-distill-set"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("deployment run build-distill-set", f"deployment run {FULL}"),
        ("deployments run build-distill-set", f"deployments run {FULL}"),
        ("deployment inspect build-distill-set", f"deployment inspect {FULL}"),
        ("--profile x deployment run build-distill-set --watch", f"--profile x deployment run {FULL} --watch"),
        ("--no-prompt deployment run --watch build-distill-set", f"--no-prompt deployment run --watch {FULL}"),
        ("deployment run --param recipe=demo build-distill-set", f"deployment run --param recipe=demo {FULL}"),
    ],
)
def test_name_is_spelled_out(typed, meant):
    assert expand(["prefect", *typed.split()]) == ["prefect", *meant.split()]


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "deployment run",
        "deployment ls",
        "flow-run ls",
        "deployment delete retrain",
        "deployment run theirs/retrain",
        f"deployment run {FULL} --flow-run-name retrain",
        "deployment run --flow-run-name retrain --id 123",
        "deployment run --id retrain",
        "deployment run somebody-elses",
        "worker start --pool retrain",
        "deployment run -- retrain",
    ],
)
def test_everything_else_is_left_alone(typed):
    assert expand(["prefect", *typed.split()]) == ["prefect", *typed.split()]


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("build", "build-distill-set or build-dpo-set"),
        ("buld-distill-set", "build-distill-set"),
        ("train_student", "train-student"),
    ],
)
def test_nearly_our_name_is_refused_with_advice(typed, said):
    with pytest.raises(SystemExit, match=f"did you mean {said}"):
        expand(["prefect", "deployment", "run", typed])


@pytest.mark.parametrize(
    ("argv", "original", "mine"),
    [
        (["/x/bin/prefect", "version"], [], True),
        (["C:/x/prefect.exe"], [], True),
        (["-m", "deployment"], ["python", "-m", "prefect", "deployment"], True),
        (["-m"], ["python", "-m", "pytest", "prefect"], False),
        (["/x/bin/pytest", "deployment", "run", "retrain"], [], False),
        ([], [], False),
    ],
)
def test_only_the_prefect_command_is_touched(argv, original, mine):
    assert plugin._is_prefect(argv, original) is mine


@pytest.mark.parametrize("name", [one["name"] for one in yaml.safe_load(plugin.DEPLOYMENTS.read_text())["deployments"]])
def test_every_deployment_has_its_short_name(name):
    assert expand(["prefect", "deployment", "run", name]) == ["prefect", "deployment", "run", f"{name}/{name}"]


def test_a_deployment_that_is_added_needs_nothing_here(tmp_path, monkeypatch):
    monkeypatch.setattr(plugin, "DEPLOYMENTS", tmp_path / "prefect.yaml")
    plugin.DEPLOYMENTS.write_text("deployments: [{name: new-one}]")
    assert expand(["prefect", "deployment", "run", "new-one"])[-1] == "new-one/new-one"
    assert expand(["prefect", "deployment", "run", "retrain"])[-1] == "retrain"
    plugin.DEPLOYMENTS.unlink()
    assert expand(["prefect", "deployment", "run", "new-one"])[-1] == "new-one"
