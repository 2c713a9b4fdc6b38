"""What `lightgen plan` finds: missing parts, states of steps, and that it makes nothing."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lightgen.cli import app
from lightgen.errors import ConfigError
from lightgen.operations.machines import GPUS, described, known_gpu
from lightgen.operations.preflight import Preflight, check, preflight
from lightgen.operations.run import run_recipe
from lightgen.recipe import RECIPES, Recipe, load_recipe
from lightgen.storage.store import open_or_create

ROOT = Path(__file__).parents[3]
TINY = str(ROOT / "tests" / "recipes" / "tiny.yaml")
MODELS = {
    "black-forest-labs/FLUX.1-dev",
    "stabilityai/stable-diffusion-3.5-large",
    "google/flan-t5-xxl",
    "Qwen/Qwen2.5-VL-7B-Instruct",
    "facebook/mask2former-swin-small-coco-instance",
    "openai/clip-vit-large-patch14",
}
FILES = {"data/captions.parquet", "data/geneval/evaluation_metadata.jsonl"}
OWN_FILES = {"paper": {*FILES, "data/improved_aesthetics_6.5plus.parquet"}, "repo": {*FILES, "data/held_out.parquet"}}
EIGHT = described("8xH100")


@pytest.fixture(autouse=True)
def _nothing_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No data beside the test, no model in a cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def named(found: Preflight, place, names: set[str]) -> set[str]:
    """Those of `names` that problems of a list speak of."""
    return {name for name in names for problem in found.of(place) if name in problem.what}


@pytest.mark.parametrize("name", ["paper", "repo"])
def test_a_shipped_recipe_lacks_pins_models_and_captions_and_nothing_else(name: str) -> None:
    found = preflight(load_recipe(name), "nowhere", machine=EIGHT)
    pins = found.of("recipe")
    assert named(found, "recipe", MODELS) == MODELS
    assert len(pins) == len(MODELS)
    assert all("has no commit" in problem.what for problem in pins)
    assert named(found, "here", MODELS) == MODELS
    files = OWN_FILES[name]
    assert named(found, "here", files) == files
    others = [p for p in found.of("here") if not any(name in p.what for name in MODELS | files)]
    assert [problem.where for problem in others] in ([], ["pair.judge.kind"])
    assert found.of("machine") == []
    assert not Path("nowhere").exists()


def test_the_demo_is_sound() -> None:
    assert preflight(load_recipe("demo"), "nowhere").sound


def test_the_published_warm_up_is_a_remark_and_no_fault() -> None:
    remarks = preflight(load_recipe("repo"), "nowhere", machine=EIGHT).remarks
    assert any("111,400" in remark.what and "0.000718" in remark.what for remark in remarks)


def children_s() -> float:
    """Seconds that processors have worked for children of this process, however busy they are with others."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_the_command_names_all_of_it_in_seconds_and_ends_with_one(tmp_path: Path) -> None:
    environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path / "hub"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "lightgen.cli", "plan", str(RECIPES / "paper.yaml"), "--store", "nowhere"]
    before = children_s()
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert children_s() - before < 30
    assert (ran.returncode, ran.stderr) == (1, ""), ran.stderr
    for name in MODELS | OWN_FILES["paper"]:
        assert name in ran.stdout
    for title in ("The recipe", "Here", "The machine"):
        assert title in ran.stdout
    assert "Traceback" not in ran.stdout


def test_another_machine_is_a_matter_of_its_data_sheet() -> None:
    recipe = load_recipe("paper")
    one, eight = (preflight(recipe, "nowhere", machine=described(spec)) for spec in ("A100-40", "8xA100-80"))
    assert any("pretrain.0.launch.processes" in problem.where for problem in one.of("machine"))
    assert any("GB by formula" in problem.what for problem in one.of("machine"))
    assert eight.of("machine") == []
    hours = [{line.step.name: line.seconds for line in found.lines} for found in (one, eight)]
    assert hours[0]["generate"] == pytest.approx(8 * hours[1]["generate"])


def test_an_unknown_machine_names_the_known() -> None:
    for spec in ("8xZ9", "0xH100", "8x", "many GPUs"):
        with pytest.raises(ConfigError, match="H200" if "0x" not in spec else "at least one"):
            described(spec)


def test_devices_are_known_by_the_drivers_names() -> None:
    names = {
        "NVIDIA H100 80GB HBM3": (85e9, "H100"), "NVIDIA H200": (150e9, "H200"), "NVIDIA L4": (24e9, "L4"),
        "NVIDIA A100-SXM4-40GB": (42e9, "A100-40"), "NVIDIA A100-SXM4-80GB": (85e9, "A100-80"),
        "NVIDIA L40S": (48e9, "L40S"), "NVIDIA GeForce RTX 4090": (25e9, "4090"),
    }  # fmt: skip
    for driver, (memory, name) in names.items():
        gpu = known_gpu(driver, memory)
        assert gpu is not None
        assert gpu.name == name
    assert known_gpu("NVIDIA Tesla K80", 12e9) is None
    assert len({gpu.name for gpu in GPUS}) == len(GPUS)


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(p.relative_to(folder)): (p.stat().st_size, p.stat().st_mtime_ns) for p in folder.rglob("*")}


def test_steps_are_sealed_missing_or_unknown_and_nothing_is_written(tmp_path: Path) -> None:
    recipe, store = load_recipe(TINY), str(tmp_path / "store")
    run_recipe(recipe, open_or_create(store), ["filter"])
    before = listing(tmp_path / "store")
    found = preflight(recipe, store)
    assert listing(tmp_path / "store") == before
    states = {line.step.name: line.found.state for line in found.lines}
    made = ["source", "select", "generate", "score-pixels", "filter"]
    assert [name for name, state in states.items() if state == "sealed"] == made
    missing = ["fit-vae", "texts", "source-held-out", "source-test"]
    assert [name for name, state in states.items() if state == "missing"] == missing
    lines = {line.step.name: line for line in found.lines}
    assert lines["generate"].rows.count == 48
    assert lines["encode-16px"].rows.count == 48


def test_what_the_store_measured_replaces_the_formula_and_says_so(tmp_path: Path) -> None:
    recipe, store = load_recipe(TINY), str(tmp_path / "store")
    run_recipe(recipe, open_or_create(store), ["filter"])
    changed = load_recipe(TINY, {"seed": 8})
    lines = {line.step.name: line for line in preflight(changed, store).lines}
    assert lines["generate"].found.state == "unknown"
    assert lines["generate"].by.startswith("measured on cpu, images@")
    assert lines["generate"].device_seconds > 0
    assert lines["encode-16px"].by == "formula"
    smaller = load_recipe(TINY, {"seed": 8, "generate.size_px": 16})
    assert {line.step.name: line for line in preflight(smaller, store).lines}["generate"].by == "no figure"


def test_a_version_that_is_begun_is_measured_by_its_own_shards(tmp_path: Path) -> None:
    recipe, store = load_recipe(TINY), str(tmp_path / "store")
    opened = open_or_create(store)
    ref = run_recipe(recipe, opened, ["generate"])["generate"]
    folder = tmp_path / "store" / "v" / "images" / ref.version
    (folder / "manifest.json").unlink()
    (folder / "done" / "00001.json").unlink()
    line = next(line for line in preflight(recipe, store).lines if line.step.name == "generate")
    assert (line.found.state, line.found.detail) == ("missing", "1 of 2 shards")
    assert "its first 1 shards" in line.by


def test_money_comes_from_the_option_or_the_recipe() -> None:
    recipe = load_recipe("paper", {"evaluate.usd_per_hour": 3.0})
    assert preflight(recipe, "nowhere", machine=EIGHT).usd_per_hour == 3
    assert preflight(recipe, "nowhere", machine=EIGHT, usd_per_hour=5).usd_per_hour == 5


def test_goals_limit_what_is_looked_at() -> None:
    found = preflight(load_recipe("paper"), "nowhere", ["select"], EIGHT)
    assert [line.step.name for line in found.lines] == ["source", "select"]
    keys = {where.split(".")[0] for problem in found.problems for where in problem.where.split(", ")}
    assert keys == {"source", "select"}


def test_a_version_taken_as_it_is_must_be_there(tmp_path: Path) -> None:
    recipe = load_recipe(TINY, {"select": {"use": "prompts@tag:mine"}})
    found = preflight(recipe, str(tmp_path / "store"))
    assert any("prompts@tag:mine" in problem.what and problem.where == "select" for problem in found.problems)


def test_the_whole_as_json() -> None:
    found = json.loads(CliRunner().invoke(app, ["plan", TINY, "--store", "nowhere", "--json"]).stdout)
    assert {"step", "state", "rows", "bytes", "seconds", "by"} <= found["steps"][0].keys()
    assert all({"place", "where", "what", "fix", "weight"} == problem.keys() for problem in found["problems"])


def test_a_run_is_refused_before_it_begins_with_every_reason_at_once(tmp_path: Path) -> None:
    recipe = load_recipe("paper")
    with pytest.raises(ConfigError) as refused:
        check(recipe, "nowhere")
    told = str(refused.value)
    for name in ("FLUX.1-dev", "flan-t5-xxl", "captions.parquet", "improved_aesthetics_6.5plus.parquet", "Qwen2.5-VL"):
        assert name in told
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "lightgen.cli", "run", "paper", "--store", "nowhere"]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert ran.returncode == 2, ran.stdout + ran.stderr
    assert "FLUX.1-dev" in ran.stderr
    assert not (tmp_path / "nowhere").exists()


def test_gaps_do_not_stop_a_run(tmp_path: Path) -> None:
    recipe: Recipe = load_recipe(TINY, {"align.loop.precision": "auto"})
    assert any(problem.weight == "gap" for problem in preflight(recipe, str(tmp_path / "store")).problems)
    check(recipe, str(tmp_path / "store"))


def test_time_is_that_of_the_precision_of_the_products() -> None:
    seconds = {}
    for precision in ("bf16", "tf32", "fp32"):
        found = preflight(load_recipe("paper", {"align.loop.precision": precision}), "nowhere", machine=EIGHT)
        seconds[precision] = {line.step.name: line.device_seconds for line in found.lines}
    for name in ("reference-dpo", "align-dpo"):
        assert seconds["tf32"][name] == pytest.approx(2 * seconds["bf16"][name])
        assert seconds["fp32"][name] == pytest.approx(989 / 67 * seconds["bf16"][name])
    assert seconds["fp32"]["pretrain-512px"] == seconds["bf16"]["pretrain-512px"]
