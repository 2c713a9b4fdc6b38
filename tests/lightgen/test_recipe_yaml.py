"""Recipes are read strictly: nothing that two readers take for two things, no bombs, and advice by name."""

import pytest
import yaml

from lightgen.errors import ConfigError
from lightgen.recipe import load_recipe
from lightgen.recipe_yaml import read_value, read_yaml

TINY = "tests/recipes/tiny.yaml"
LEVELS = zip("abcdefghij", "bcdefghijk", strict=True)
NINE = [f"{name}: &{name} [{', '.join(['*' + before] * 9)}]" for before, name in LEVELS]
BOMB = "\n".join(["a: &a [x, x, x, x, x, x, x, x, x]", *NINE])


def read(tmp_path, text):
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return read_yaml(path)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("10", 10), ("-3", -3), ("0", 0), ("1e-8", 1e-8), ("1.5", 1.5), (".5", 0.5), ("5.0e-7", 5e-7), ("true", True),
        ("off", "off"), ("no", "no"), ("yes", "yes"), ("on", "on"), ("null", None), ("~", None), ("", None),
        ("'010'", "010"), ("[1, off]", [1, "off"]), ("2026-11-28", "2026-11-28"), ("0.1.2", "0.1.2"), ("1.2e", "1.2e"),
    ],
)  # fmt: skip
def test_scalars_are_those_of_yaml_1_2(text, value):
    found = read_value(text)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("text", ["010", "-007", "1:30", "12:30:45", "0x10", "0b11", "1_000", "00"])
def test_numbers_that_readers_take_differently_are_refused(text):
    with pytest.raises(ConfigError, match="write it plainly, or quote it"):
        read_value(text)


@pytest.mark.parametrize("text", ["a: 1\nb: 2\na: 3\n", "x:\n  a: 1\n  'a': 2\n"])
def test_a_key_that_stands_twice_is_refused_with_both_lines(tmp_path, text):
    with pytest.raises(ConfigError, match=r"line \d: the key 'a' stands twice, in line \d too"):
        read(tmp_path, text)


def test_a_merged_key_may_be_overridden(tmp_path):
    assert read(tmp_path, "a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\n")["b"] == {"x": 3, "y": 2}


@pytest.mark.timeout(20)
def test_an_alias_bomb_is_refused_at_once(tmp_path):
    with pytest.raises(ConfigError, match="values once aliases are written out"):
        read(tmp_path, BOMB)


@pytest.mark.timeout(20)
def test_a_bomb_of_merges_is_refused_too(tmp_path):
    merges = "\n".join(f"m{i}: &m{i} {{<<: [{', '.join([f'*m{i - 1}'] * 9)}], k{i}: 1}}" for i in range(1, 9))
    with pytest.raises(ConfigError, match="values once aliases are written out"):
        read(tmp_path, f"m0: &m0 {{k: 1}}\n{merges}\n")


def test_an_alias_of_itself_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="stands inside of what it means"):
        read(tmp_path, "a: &a [*a]\n")


@pytest.mark.parametrize("text", ["!!python/object/apply:os.system ['true']", "{a: [}", "\x00", "a: b: c", "- 1\n- 2"])
def test_what_is_no_plain_mapping_is_refused(tmp_path, text):
    with pytest.raises(ConfigError):
        read(tmp_path, text)


def test_depth_is_bounded(tmp_path):
    with pytest.raises(ConfigError):
        read(tmp_path, "a: " + "[" * 5000 + "]" * 5000)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"generate.sizepx": 3}, "generate.sizepx: there is no such key; did you mean 'size_px'? allowed are batch, "),
        ({"generate.generator.colour": 1}, "generate.generator.colour: there is no such key; allowed are kind"),
        ({"filter.rules": [{"column": "a", "leest": 1}]}, "filter.rules.0.leest: there is no such key; did you mean"),
        ({"align.betta": 3}, "align.betta: there is no such key; did you mean 'beta'? allowed are anchor, "),
        ({"pretrain.1.loop.step": 3}, "pretrain.1.loop.step: there is no such key; did you mean 'steps'?"),
        ({"texts.encoder.dims": 3}, "texts.encoder.dims: there is no such key; did you mean 'dim'?"),
        ({"retrain": 1}, "retrain: there is no such key; did you mean 'pretrain'? allowed are align, "),
        ({"source.corpora.0.counts": 1}, "source.corpora.0.counts: there is no such key; did you mean 'count'?"),
        ({"test.source.shardrows": 1}, "test.source.shardrows: there is no such key; did you mean 'shard_rows'?"),
    ],
)
def test_an_unknown_key_is_refused_with_its_place_and_the_allowed_ones(change, told):
    with pytest.raises(ConfigError) as caught:
        load_recipe(TINY, change)
    assert told in str(caught.value)


def test_yaml_without_our_reader_would_take_an_octal():
    assert yaml.safe_load("010") == 8
