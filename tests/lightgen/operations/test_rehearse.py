"""A rehearsal runs the whole recipe in small, leaves nothing, and fails where the run would."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from lightgen.decisions.rules import KEPT, Rule, apply_rules
from lightgen.errors import ConfigError
from lightgen.operations.rehearsal import halving, rehearse
from lightgen.operations.small import small_recipe
from lightgen.operations.steps import steps_of
from lightgen.recipe import Recipe, load_recipe
from lightgen.storage.store import open_store

ROOT = Path(__file__).parents[3]
RECIPES = ROOT / "tests" / "recipes"
TINY, RANKS, CORPORA = (str(RECIPES / f"{name}.yaml") for name in ("tiny", "ranks", "real_corpora"))
FAULT = "    return\n"  # what stands first in the functions that keep DDP from waiting for what never comes


def test_every_step_of_a_recipe_is_made_and_nothing_is_left(tmp_path: Path) -> None:
    recipe = load_recipe(TINY)
    done = list(rehearse(recipe, str(tmp_path / "store")))
    assert [one.name for one in done] == [step.name for step in steps_of(recipe)]
    assert list(tmp_path.iterdir()) == []
    rows = {one.name: (one.rows, one.rejected) for one in done}
    assert rows["filter"][0] > 0, "some pass"
    assert rows["filter"][1] > 0, "and some do not"
    assert rows["pair"][0] > 0
    assert any("observed" in one.note for one in done if one.name == "filter")


def test_a_store_can_be_kept_for_a_look(tmp_path: Path) -> None:
    list(rehearse(load_recipe(TINY), str(tmp_path / "store"), ["select"], keep=True))
    (kept,) = tmp_path.iterdir()
    assert open_store(str(kept)).open("prompts@train").rows > 0


def test_what_fails_leaves_nothing_either(tmp_path: Path) -> None:
    recipe = load_recipe(TINY, {"pretrain.0.student.text_dim": 17})
    with pytest.raises(ConfigError, match="text_dim"):
        list(rehearse(recipe, str(tmp_path / "store")))
    assert list(tmp_path.iterdir()) == []


def test_real_formats_and_large_models_are_rehearsed_without_any_file_of_theirs(tmp_path: Path) -> None:
    recipe = load_recipe(CORPORA)
    done = {one.name: one for one in rehearse(recipe, str(tmp_path / "store"))}
    assert done["source"].rejected > 0, "odd rows are among the captions"
    assert done["encode-32px"].rows > 0
    assert [name.partition("-")[0] for name in done] == [step.name.partition("-")[0] for step in steps_of(recipe)]


@pytest.mark.parametrize(("name", "separator"), [("ours.csv", None), ("ours.tsv", None), ("ours.txt", ";")])
def test_a_table_is_rehearsed_with_the_separator_of_its_name(name: str, separator: str | None, tmp_path: Path) -> None:
    corpus = {"kind": "table", "path": name, "source": "ours", "separator": separator}
    recipe = Recipe.model_validate({"name": "ours", "source": {"corpora": [corpus]}})
    (done,) = rehearse(recipe, str(tmp_path / "store"))
    assert done.rows > 20


def test_a_recipe_that_takes_versions_as_they_are_cannot_be_rehearsed(tmp_path: Path) -> None:
    recipe = load_recipe(TINY, {"select": {"use": "prompts@latest"}})
    with pytest.raises(ConfigError, match="select takes a version as it is"):
        list(rehearse(recipe, str(tmp_path / "store")))


def test_rules_are_bounded_so_that_about_half_passes() -> None:
    random = np.random.default_rng(3)
    table = pa.table({"a": random.normal(size=200), "b": random.integers(0, 11, 200), "c": [7.0] * 200})
    rules = (Rule(column="a", least=50), Rule(column="b", least=0, most=3), Rule(column="c", most=1))
    found = halving(rules, table)
    assert [(rule.least is None, rule.most is None) for rule in found] == [(False, True), (False, False), (True, False)]
    assert 0.3 < (apply_rules(table, found).rule == KEPT).mean() < 0.7


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory):
    return small_recipe(load_recipe("paper"), tmp_path_factory.mktemp("small"), processes=2, compiles=False)


def test_what_decides_how_a_run_goes_stays_as_it_is_written(small) -> None:
    recipe = load_recipe("paper")
    assert small.run == recipe.run
    for before, after in zip(
        [*recipe.pretrain, recipe.align, recipe.control], [*small.pretrain, small.align, small.control], strict=True
    ):
        assert after.launch.model_copy(update={"processes": 8, "compile": before.launch.compile}) == before.launch
        for name in ("precision", "ema", "deterministic", "spike"):
            assert getattr(after.loop, name) == getattr(before.loop, name)
        assert after.batch_size == 2 * 2 * before.launch.accumulate
        assert after.loop.steps > after.loop.checkpoint_every, "a checkpoint is written on the way"
        assert after.masks == before.masks
    assert [type(one).__name__ for one in (small.generate.generator, small.pair.judge, small.evaluate.detector)] == [
        type(one).__name__ for one in (recipe.generate.generator, recipe.pair.judge, recipe.evaluate.detector)
    ]


def test_sizes_keep_their_ratio_and_encoders_their_widths(small) -> None:
    recipe = load_recipe("paper")
    assert small.encode[1].size_px == 2 * small.encode[0].size_px
    assert small.generate.size_px == small.encode[1].size_px == small.evaluate.models["teacher"].size_px
    assert small.encode[0].vae.shape == recipe.encode[0].vae.shape == (16, 8)
    assert small.texts.encoder.width == recipe.texts.encoder.width == 4096
    assert small.encode[0].vae == small.encode[1].vae


@pytest.mark.parametrize("preset", ["lightgen-0.7b", "lightgen-official"])
def test_a_student_keeps_its_parts_and_flags(preset: str, tmp_path: Path) -> None:
    recipe = load_recipe(TINY, {"pretrain.0.student": preset, "texts.encoder.dim": 4096, "encode.0.vae.channels": 16})
    before, after = recipe.pretrain[0].sizes(), small_recipe(recipe, tmp_path, None, True).pretrain[0].sizes()
    changed = {name for name in type(before).model_fields if getattr(before, name) != getattr(after, name)}
    assert changed <= {
        "width", "heads", "encoder_depth", "decoder_depth", "text_depth", "aligner_depth", "head_width", "head_depth",
        "grid",
    }  # fmt: skip


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program with the fault that DPO once had under DDP: parameters that nothing trains are waited for."""
    copy = tmp_path_factory.mktemp("broken")
    for name in ("lightgen", "schemas", "tests/recipes"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    path = copy / "lightgen" / "training" / "frozen.py"
    text = path.read_text()
    for line in ("    untrained = {id(", "    missing = [name"):
        assert text.count(line) == 1
        text = text.replace(line, FAULT + line)
    path.write_text(text)
    return copy


def rehearsed(program: Path, place: Path) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYTHONPATH": str(program), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "lightgen.cli", "rehearse", RANKS, "--store", str(place / "store")]
    return subprocess.run(command, env=environment, cwd=place, capture_output=True, text=True, timeout=280, check=False)


@pytest.mark.long
def test_a_fault_that_only_ranks_have_fails_the_rehearsal_and_without_it_there_is_none(
    broken: Path, tmp_path: Path
) -> None:
    sound = rehearsed(ROOT, tmp_path)
    assert sound.returncode == 0, sound.stderr[-2000:]
    assert "rehearsed: " in sound.stdout.splitlines()[-1]
    faulty = rehearsed(broken, tmp_path)
    assert faulty.returncode == 2, faulty.stdout[-2000:] + faulty.stderr[-2000:]
    assert "align-dpo" not in faulty.stdout
    assert "Expected to have finished reduction in the prior iteration" in faulty.stderr
