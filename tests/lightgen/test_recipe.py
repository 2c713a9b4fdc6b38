"""Recipes: every shipped one loads, and a wrong one is refused with file, key and reason."""

import pytest

from lightgen.errors import ConfigError
from lightgen.recipe import RECIPES, load_recipe


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_loads(path):
    assert load_recipe(path.stem).encode


def test_unknown_recipe_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'demo'"):
        load_recipe("demoo")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"generate.size": 64}, r"demo\.yaml: generate\.size"),
        ({"pretrain.0.batch_size": -1}, r"pretrain\.0\.batch_size"),
        ({"align.beta": float("inf")}, r"align\.beta"),
        ({"source.tokenizer": "hf_" + "a" * 30}, r"source\.tokenizer looks like a secret"),
    ],
)
def test_wrong_settings_are_refused_by_key(overrides, said):
    with pytest.raises(ConfigError, match=said) as error:
        load_recipe("demo", overrides)
    assert "a" * 30 not in str(error.value)


def test_overrides_reach_lists_and_groups():
    recipe = load_recipe("demo", {"pretrain.1.batch_size": 3, "generate.size_px": 48})
    assert (recipe.pretrain[1].batch_size, recipe.generate.size_px) == (3, 48)


def test_an_override_changes_the_setting_it_names_and_none_that_shares_its_anchor():
    recipe = load_recipe("demo", {"pretrain.1.samples.iterations": 3, "pretrain.1.student.width": 64})
    assert (recipe.pretrain[1].samples.iterations, recipe.pretrain[1].student.width) == (3, 64)
    assert (recipe.pretrain[0].samples.iterations, recipe.pretrain[0].student.width) == (16, 128)
    assert recipe.pair.sample.iterations == 16


def test_yaml_runs_no_code(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("name: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(ConfigError, match="not a plain YAML file"):
        load_recipe(str(path))
