"""The next training run of a recipe can be trained by another launcher; the stage then seals what it trained."""

import json
from pathlib import Path

import pytest

from lightgen.errors import ConfigError, NotMade
from lightgen.operations.run import run_recipe
from lightgen.operations.training_job import next_job
from lightgen.recipe import load_recipe
from lightgen.stages.pretrain import prepare
from lightgen.storage.store import Store, open_or_create, open_store
from lightgen.training.job import TrainingJob
from lightgen.training.loop import train
from lightgen.training.ranks import World
from tests.lightgen.cli.terminal import lightgen

RECIPE = load_recipe("tests/recipes/tiny.yaml", {"run": {"device": "cpu"}})
GIVEN = ["texts", "encode"]


def trained_elsewhere(job: TrainingJob) -> None:
    """As docs/scale.md does it in a process of Ray."""
    setup = prepare(job, open_store(job.store), "cpu")
    common = {"seed": job.seed, "folder": job.folder, "run_id": job.run_id, "draw_samples": setup.draw_samples}
    train(setup.student, setup.objective, setup.loop, **common, world=World(), launch=setup.launch)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_or_create(str(tmp_path / "store"))


def test_a_run_that_was_trained_elsewhere_is_sealed_without_a_step_and_is_the_same(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_recipe(RECIPE, store, GIVEN)
    words = ("job", "tests/recipes/tiny.yaml", "--store", store.uri, "--set", "run.device=cpu")
    code, out, err = lightgen(*words, monkeypatch=monkeypatch, capsys=capsys)
    assert (code, err) == (0, "")
    job = TrainingJob.model_validate(json.loads(out))
    assert (job.stage, job.config["student"]["grid"]) == ("pretrain", 2), "the smaller size comes first"
    trained_elsewhere(job)
    steps = [path.name for path in job.folder.iterdir()]
    made = run_recipe(RECIPE, store, ["pretrain-16px"])["pretrain-16px"]
    assert made.version == job.run_id
    assert any("3" in name for name in steps), "the last step had its checkpoint"
    whole = open_or_create(str(tmp_path / "whole"))
    assert run_recipe(RECIPE, whole, ["pretrain-16px"])["pretrain-16px"] == made.model_copy(update={"uri": whole.uri})
    assert next_job(RECIPE, store).config["grid"] == 4, "then the larger one"


def test_what_is_missing_before_it_is_said(store: Store) -> None:
    with pytest.raises(NotMade, match="stage source is not made yet"):
        next_job(RECIPE, store)


def test_where_nothing_is_left_to_train_that_is_said(store: Store) -> None:
    prompts = load_recipe("tests/recipes/tiny.yaml", dict.fromkeys(("pretrain", "pair", "align", "control"), None) | {
        "pretrain": [], "texts": None, "encode": [], "evaluate": None,
    })  # fmt: skip
    run_recipe(prompts, store)
    with pytest.raises(ConfigError, match="nothing is left to train"):
        next_job(prompts, store)
