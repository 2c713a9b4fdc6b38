"""A stage under Prefect holds every GPU that it sees, as long as it works."""

import fcntl
from types import SimpleNamespace

import pytest
import torch
from lightgen.storage.build import build
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from flows.serve.server import free_port
from tasks.run import run_stage
from tests.worked_version import SCHEMA, plan_of, rows

GPUS = [SimpleNamespace(name="NVIDIA H100", uuid="0aa1"), SimpleNamespace(name="NVIDIA H100", uuid="1bb2")]


@pytest.mark.filterwarnings("ignore:Artifact creation outside")
def test_a_stage_holds_all_visible_gpus_and_lets_them_go(tmp_path, monkeypatch):
    monkeypatch.setenv("LIGHTGEN_GPU_LOCKS", str(tmp_path / "locks"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(GPUS))
    monkeypatch.setattr(torch.cuda, "get_device_properties", GPUS.__getitem__)
    held = []

    def free(gpu):
        with (tmp_path / "locks" / f"GPU-{gpu.uuid}.lock").open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

    def stage(store, progress):
        held.extend(not free(gpu) for gpu in GPUS)
        return build(store, plan_of(1), rows, SCHEMA)

    nobody = {PREFECT_API_URL: f"http://127.0.0.1:{free_port()}/api", PREFECT_CLIENT_MAX_RETRIES: 0}
    with temporary_settings(nobody):
        run_stage("source-train", str(tmp_path / "store"), stage)
    assert held == [True, True]
    assert all(free(gpu) for gpu in GPUS)
