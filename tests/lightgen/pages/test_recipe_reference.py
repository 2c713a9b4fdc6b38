"""docs/recipe.md and recipes/recipe.schema.json are those of the code, complete, and fit the shipped recipes."""

import copy
import json
from pathlib import Path

import jsonschema
import pytest

from lightgen.pages.recipe_reference import json_schema, markdown, undocumented
from lightgen.recipe import RECIPES, Recipe
from lightgen.recipe_yaml import read_yaml

ROOT = Path(__file__).parents[3]
SHIPPED = sorted(RECIPES.glob("*.yaml"))


def test_the_page_is_that_of_the_code():
    assert (ROOT / "docs/recipe.md").read_text() == markdown(), "run `lightgen schema --markdown > docs/recipe.md`"


def test_the_schema_is_that_of_the_code():
    kept = (RECIPES / "recipe.schema.json").read_text()
    assert kept == json_schema(), "run `lightgen schema > recipes/recipe.schema.json`"


def test_every_setting_is_told_what_it_is():
    assert undocumented() == []


def test_every_setting_stands_in_the_page():
    page = markdown()
    models = [Recipe.model_json_schema(), *Recipe.model_json_schema()["$defs"].values()]
    names = {name for model in models for name in model.get("properties", {}) if name != "kind"}
    assert not [name for name in names if f"| `{name}` |" not in page]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_recipe_names_the_schema_and_fits_it(path):
    assert "# yaml-language-server: $schema=recipe.schema.json" in path.read_text().splitlines()[0]
    jsonschema.validate(_plain(path), json.loads(json_schema()))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("smaple", 1),
        ("seed", "zero"),
        ("generate.size_px", 8),
        ("generate.generator.kind", "fluks"),
        ("encode.0.vea", {}),
    ],
)
def test_a_mistake_does_not_fit(key, value):
    recipe = copy.deepcopy(_plain(RECIPES / "demo.yaml"))
    *parents, last = key.split(".")
    node = recipe
    for part in parents:
        node = node[int(part)] if part.isdigit() else node[part]
    node[last] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(recipe, json.loads(json_schema()))


def _plain(path: Path) -> dict:
    """As an editor reads it."""
    return json.loads(json.dumps(read_yaml(path)))
