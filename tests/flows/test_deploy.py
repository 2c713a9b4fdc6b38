"""What deploy/ ships for Kubernetes: a template without loose ends, and a pool profile and an image that fit it."""

import copy
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import yaml
from prefect.utilities.templating import apply_values, find_placeholders

ROOT = Path(__file__).parents[2]
TEMPLATE = json.loads((ROOT / "deploy/k8s-base-job-template.json").read_text())
DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text()


def loose(template: dict[str, Any]) -> set[str]:
    """Placeholders of the job that no variable fills."""
    return {one.name for one in find_placeholders(template["job_configuration"])} - set(
        template["variables"]["properties"]
    )


def rendered(**given: Any) -> dict[str, Any]:
    """The pod as a worker asks for it."""
    properties = TEMPLATE["variables"]["properties"]
    defaults = {name: one["default"] for name, one in properties.items() if "default" in one}
    manifest = TEMPLATE["job_configuration"]["job_manifest"]
    return apply_values(manifest, {**defaults, **given})["spec"]["template"]["spec"]


def profile() -> dict[str, Any]:
    """The pool that prefect.yaml holds as a comment."""
    text = (ROOT / "prefect.yaml").read_text()
    commented = re.findall(r"^ *# (pool: &pool|  (?:name|job_variables): .*)$", text, re.MULTILINE)
    return yaml.safe_load("\n".join(commented))["pool"]


def test_every_placeholder_is_declared_and_every_variable_is_used():
    assert loose(TEMPLATE) == set()
    used = {one.name for one in find_placeholders(TEMPLATE["job_configuration"])}
    assert used == set(TEMPLATE["variables"]["properties"])


def test_a_misspelt_placeholder_would_be_seen():
    broken = copy.deepcopy(TEMPLATE)
    broken["job_configuration"]["job_manifest"]["spec"]["backoffLimit"] = "{{ backof_limit }}"
    assert loose(broken) == {"backof_limit"}


def test_a_pod_asks_for_gpus_by_limits_and_has_shared_memory():
    pod = rendered(image="lightgen:1", gpus=8, shm_size="64Gi")
    (container,) = pod["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 8
    assert "nvidia.com/gpu" not in container["resources"]["requests"], "GPUs are limits only; a request must equal it"
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert volumes["shm"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "64Gi"}
    assert {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}["shm"] == "/dev/shm"
    assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
    assert pod["restartPolicy"] == "Never", "Prefect starts a run again, with its retries and its log"


def test_a_pod_is_not_root_and_reads_secrets_from_a_secret():
    pod = rendered(image="lightgen:1", store_secret="ours")
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert container["envFrom"] == [{"secretRef": {"name": "ours", "optional": True}}]
    assert not re.search(r"secret_access_key|password", json.dumps(TEMPLATE["job_configuration"]), re.IGNORECASE)


def test_defaults_alone_leave_no_placeholder_but_the_image_is_asked_for():
    pod = rendered()
    assert find_placeholders(pod) == set()
    assert "image" not in pod["containers"][0]
    assert TEMPLATE["variables"]["required"] == ["image"]


def test_the_cache_may_outlive_the_pod():
    claim = {"name": "cache", "persistentVolumeClaim": {"claimName": "lightgen"}}
    assert claim in rendered(image="lightgen:1", cache_volume=claim)["volumes"]


def test_the_commented_pool_of_prefect_yaml_fits_the_template():
    pool = profile()
    assert set(pool["job_variables"]) <= set(TEMPLATE["variables"]["properties"])
    assert set(TEMPLATE["variables"]["required"]) <= set(pool["job_variables"])
    assert pool["name"] in (ROOT / "docs/scale.md").read_text()


def test_the_image_has_the_user_the_folders_and_the_packages_that_others_rely_on():
    user = rendered()["securityContext"]
    assert f"USER {user['runAsUser']}:{user['runAsGroup']}" in DOCKERFILE
    mounts = rendered()["containers"][0]["volumeMounts"]
    cache = next(mount["mountPath"] for mount in mounts if mount["name"] == "cache")
    assert f"mkdir {cache}" in DOCKERFILE
    assert "pip install --no-cache-dir -c constraints.txt" in DOCKERFILE
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    copied = set(re.findall(r"^COPY (\w+) \1$", DOCKERFILE, re.MULTILINE))
    assert copied >= {*packages["packages"], "recipes"}
