"""prefect.yaml and the flows say the same."""

import importlib
from pathlib import Path

import pytest
import yaml
from prefect.schedules import Schedule

from lightgen.recipe import load_recipe

ROOT = Path(__file__).parents[2]
DEPLOYMENTS = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
FURTHER = {"ablate": ["ablation"]}  # parameters of one flow alone


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda one: one["name"])
def test_entrypoint_is_a_flow_of_that_name_and_takes_the_parameters(deployment):
    module, _, function = deployment["entrypoint"].partition(":")
    flow = getattr(importlib.import_module(module), function)
    assert flow.name == deployment["name"]
    assert list(flow.parameters.properties) == ["recipe", "overrides", "store", *FURTHER.get(deployment["name"], [])]
    flow.validate_parameters(deployment["parameters"])
    load_recipe(deployment["parameters"]["recipe"])


def test_only_retraining_is_scheduled():
    scheduled = {one["name"]: one["schedules"] for one in DEPLOYMENTS if "schedules" in one}
    assert list(scheduled) == ["retrain"]
    (weekly,) = scheduled["retrain"]
    Schedule(cron=weekly["cron"], timezone=weekly["timezone"])


def test_flow_results_and_task_caches_stay_off():
    from flows.build_distill_set import build_distill_set
    from tasks.stages import TASKS

    assert build_distill_set.persist_result is False
    for task in TASKS.values():
        assert task.persist_result is False
        assert task.cache_policy.compute_key(None, {}, {}) is None
