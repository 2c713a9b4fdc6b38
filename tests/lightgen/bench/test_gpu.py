"""One command measures all that is told of a GPU: its small form runs everywhere, and no item costs another."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lightgen.bench import gpu, gpu_child
from lightgen.bench.gpu import ON_CPU, ON_GPU, Item, as_markdown, bench_gpu, sheet_tflops
from lightgen.errors import ConfigError
from lightgen.model.config import PRESETS

ROOT = Path(__file__).parents[3]
# Packages of the project that a bare machine with torch lacks.
LACKING = [
    "yaml", "xxhash", "PIL", "prefect", "diffusers", "transformers", "webdataset", "aiohttp", "fsspec", "datasketch",
    "numba", "scipy", "httpx", "einops", "jinja2", "psutil", "ftfy",
]  # fmt: skip
BLOCKER = """
import sys
class Lacking:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {lacking}:
            raise ModuleNotFoundError(f"No module named {{name!r}}, which this machine lacks", name=name)
sys.meta_path.insert(0, Lacking())
"""


def test_the_small_form_measures_every_item_without_any_other_package(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(BLOCKER.format(lacking=set(LACKING)))
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "lightgen.bench.gpu", "--cpu", "--folder", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    table = json.loads((tmp_path / "out" / "gpu.json").read_text())
    assert [one["item"] for one in table["items"]] == [item.name for item in ON_CPU]
    assert [one["missing"] for one in table["items"]] == [""] * len(ON_CPU)
    assert {item.way for item in ON_CPU} == {item.way for item in ON_GPU}
    assert (tmp_path / "out" / "gpu.md").read_text() == as_markdown(table)
    notes = {row["way"]: row["note"] for one in table["items"] for row in one["rows"]}
    assert notes["float32 against the CPU"].startswith("within")
    assert notes["two runs of 3 steps, fp32"] == "equal bit for bit"


def test_an_item_at_which_the_process_dies_is_named_and_the_next_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "CHILD", "tests.lightgen.bench.dying_child")
    monkeypatch.chdir(ROOT)
    items = [Item("paths", 0), Item("dpo", 0), Item("repeat", 0)]
    found = bench_gpu(items, "cpu", minutes=5)["items"]
    assert [bool(one["rows"]) for one in found] == [True, False, True]
    assert "illegal memory access" in found[1]["missing"]
    assert "**missing**: the process died" in as_markdown({"machine": "", "device": "", "torch": "", "items": found})


def test_what_the_time_does_not_allow_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    found = bench_gpu(ON_CPU, "cpu", minutes=0)["items"]
    assert {one["missing"] for one in found} == {"no time was left"}
    job = {"items": [{"way": "paths", "least_s": 1e9, "given": {}}], "device": "cpu", "deadline": 0.0}
    gpu_child.main(json.dumps(job))
    assert "it needs 1000000000 s" in json.loads(capsys.readouterr().out.removeprefix(gpu.MARK))["missing"]


def test_memory_that_does_not_suffice_and_any_error_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> list[dict[str, object]]:
        raise torch.OutOfMemoryError("Tried to allocate 90 GiB.\nmore lines")

    monkeypatch.setitem(gpu_child.WAYS, "train", full)
    assert gpu_child._measured(Item("train", 0), "cpu") == ([], "out of memory: Tried to allocate 90 GiB.")
    rows, missing = gpu_child._measured(Item("sample", 0, {"preset": "no such"}), "cpu")
    assert (rows, missing.partition(":")[0]) == ([], "TypeError")


@pytest.mark.parametrize(
    ("name", "tflops"),
    [("NVIDIA A100-SXM4-80GB", 312), ("NVIDIA H100 80GB HBM3", 989), ("NVIDIA H200", 989), ("a new one", None)],
)
def test_the_data_sheet_is_known_by_name_or_not_at_all(name: str, tflops: float | None) -> None:
    assert sheet_tflops(name) == tflops


def test_a_batch_fits_by_formula_with_room_to_spare(monkeypatch: pytest.MonkeyPatch) -> None:
    class Card:
        total_memory = 78e9

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: Card)
    for item in ON_GPU:
        if item.way == "train":
            config, tokens = PRESETS[item.given["preset"]], (item.given["size_px"] // 16) ** 2
            batch = gpu_child._fitting(config, tokens)
            assert batch % gpu_child.MULTIPLE == 0
            assert 0.6 * 78 < gpu_child._formula_gb(config, tokens, batch) <= gpu_child.ROOM * 78, item.name


def test_without_a_gpu_the_large_form_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(gpu, "pick_device", lambda: "cpu")
    with pytest.raises(ConfigError, match="--cpu"):
        gpu.run(folder=tmp_path)
