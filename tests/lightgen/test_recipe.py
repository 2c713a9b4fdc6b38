"""Recipes: every shipped one loads, and a wrong one is refused with file, key and reason."""

import pytest

from lightgen.errors import ConfigError
from lightgen.recipe import RECIPES, load_recipe


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_loads(path):
    recipe = load_recipe(path.stem)
    assert recipe.encode or recipe.only_judges


def test_unknown_recipe_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'demo'"):
        load_recipe("demoo")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"generate.size": 64}, r"demo\.yaml: generate\.size"),
        ({"pretrain.0.batch_size": -1}, r"pretrain\.0\.batch_size"),
        ({"align.beta": float("inf")}, r"align\.beta"),
        (
            {"pretrain.-3.batch_size": 1},
            r"pretrain\.-3\.batch_size: '-3' is no place in a list of 2; give one from 0, or -1",
        ),
        ({"select.evaluation.1": {}}, r"select\.evaluation\.1: '1' is no place in a list of 1"),
        ({"pretrain.last.batch_size": 1}, r"'last' is no place in a list of 2"),
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
    assert load_recipe("demo", {"pretrain.-1.batch_size": 3, "generate.size_px": 48}) == recipe


def test_an_override_reaches_into_a_list_that_the_recipe_leaves_at_its_default(tmp_path):
    path = tmp_path / "ours.yaml"
    path.write_text("name: ours\npictures: {sets: [{kind: folder, path: p, source: ours}]}\nfilter: {}\n")
    plain, changed = load_recipe(str(path)), load_recipe(str(path), {"filter.rules.1.least": 0.25})
    assert [rule.least for rule in changed.filter.rules] == [plain.filter.rules[0].least, 0.25]
    assert changed.filter.repeats == plain.filter.repeats
    with pytest.raises(ConfigError, match=r"filter\.rules\.9\.least: '9' is no place in a list of 2"):
        load_recipe(str(path), {"filter.rules.9.least": 0.25})


def test_an_override_of_a_part_that_others_share_by_an_alias_changes_that_part_alone():
    before = load_recipe("tests/recipes/tiny.yaml")
    after = load_recipe("tests/recipes/tiny.yaml", {"pretrain.0.loop.steps": 4, "pretrain.0.samples.guidance": 3.0})
    assert before.pretrain[0].loop == before.pretrain[1].loop == before.align.loop
    assert (after.pretrain[0].loop.steps, after.pretrain[0].samples.guidance) == (4, 3.0)
    assert after.pretrain[1:] == before.pretrain[1:]
    assert (after.align, after.pair, after.evaluate) == (before.align, before.pair, before.evaluate)


def test_yaml_runs_no_code(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("name: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(ConfigError, match="not a plain YAML file"):
        load_recipe(str(path))
