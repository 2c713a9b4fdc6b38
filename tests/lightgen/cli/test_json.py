"""`--json`: one JSON value on the standard output and nothing else, with what the text tells."""

import json
import shutil

import pytest
import typer.main

from lightgen.cli import app
from lightgen.operations.run import run_recipe
from lightgen.recipe import load_recipe
from lightgen.storage.shards import Reject, ShardOutput
from lightgen.storage.store import Store, open_or_create
from tests.lightgen.cli.terminal import lightgen
from tests.worked_version import SCHEMA, build, plan_of, rows

TINY = "tests/recipes/tiny.yaml"
READING = {"ls", "show", "rejects", "verify", "diff", "trace", "plan", "recut", "gc", "volume"}


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    opened = open_or_create(str(tmp_path_factory.mktemp("json") / "store"))
    refused = [Reject("odd", "not_text", "no [letters]\x1b", {"caption": "\ud83d\ude00"})]
    first = build(opened, plan_of(1), lambda shard: ShardOutput(rows(shard).table, 5, SCHEMA, refused), 1)
    build(opened, plan_of(1, seed=1), lambda shard: ShardOutput(rows(shard).table.slice(1), 3, SCHEMA, []))
    opened.publish(first, "train")
    opened.tag(first, "good")
    return opened


@pytest.fixture
def read(store, monkeypatch, capsys):
    def call(*words: object) -> object:
        code, out, err = lightgen(*words, "--json", "--store", store.uri, monkeypatch=monkeypatch, capsys=capsys)
        assert (code, err) == (0, "")
        return json.loads(out)

    return call


def test_every_reading_command_has_it():
    commands = typer.main.get_command(app).commands  # pyright: ignore[reportAttributeAccessIssue]
    assert {name for name, one in commands.items() if any("--json" in param.opts for param in one.params)} == READING


def test_ls_tells_roles_tags_and_counts(read):
    first, second = read("ls", "captions")["versions"]
    assert (first["roles"], first["tags"], first["rows"], first["n"]) == (["train"], ["good"], 4, 1)
    assert (second["roles"], second["tags"], second["rows"]) == ([], [], 3)
    assert read("ls")["troubles"] == []


def test_show_tells_the_recipe_and_the_columns(read):
    found = read("show", "captions@tag:good")
    assert (found["rows_in"], found["rows_out"], found["reject_reasons"]) == (5, 4, {"not_text": 1})
    assert found["columns"][0] == {"name": "id", "type": "string"}
    assert found["version"].startswith("captions@")
    assert (found["roles"], found["tags"]) == (["train"], ["good"])


def test_rejects_come_whole(read):
    found = read("rejects", "captions@train")
    assert found["rows_in"] == 5
    (row,) = found["reasons"]["not_text"]["examples"]
    assert row["id"] == "odd"
    assert "[letters]" in row["detail"]


def test_a_sound_store_a_difference_and_a_trace(read):
    assert read("verify", "--all")["damaged"] == []
    assert read("diff", "captions@1", "captions@2")["removed"] == ["row-0-0"]
    assert {step["outcome"] for step in read("trace", "row-0-1")} == {"kept"}


def test_gc_lists_as_json_and_deletes_only_without_it(read, store, monkeypatch, capsys):
    assert read("gc") == {"garbage": [], "uploads": [], "evictable": []}
    copy = open_or_create(str(shutil.copytree(store.uri, f"{store.uri}-gc")))
    copy.retire("captions@2")
    words = ("gc", "--json", "--grace-days", "0", "--store", copy.uri)
    code, out, _ = lightgen(*words, monkeypatch=monkeypatch, capsys=capsys)
    version = copy.versions("captions")
    garbage = json.loads(out)["garbage"]
    assert code == 0
    assert {tuple(one) for one in garbage} == {("key", "bytes", "why")}
    code, _, err = lightgen(*words, "--apply", monkeypatch=monkeypatch, capsys=capsys)
    assert code == 2
    assert "gc --json lists; leave out --apply" in err
    assert copy.versions("captions") == version, "nothing was deleted"


def test_recut_tells_what_each_rule_leaves(monkeypatch, capsys, tmp_path):
    uri = str(tmp_path / "store")
    run_recipe(load_recipe(TINY), open_or_create(uri), ["filter"])
    words = ("recut", TINY, "--set", "filter.rules.1.least=0.9", "--json", "--store", uri)
    code, out, err = lightgen(*words, monkeypatch=monkeypatch, capsys=capsys)
    found = json.loads(out)
    assert (code, err, found["images"], found["sealed"]) == (0, "", 48, None)
    assert {"step": "blank", "before": 48, "after": 48} in found["before"]
    assert {"step": "blank", "before": 48, "after": 0} in found["after"]


def test_damage_is_json_too(store, tmp_path, monkeypatch, capsys):
    copy = shutil.copytree(store.uri, tmp_path / "copy")
    next(path for path in copy.rglob("part-*") if path.is_file()).write_bytes(b"")
    code, out, _ = lightgen("verify", "--all", "--json", "--store", copy, monkeypatch=monkeypatch, capsys=capsys)
    assert code == 1
    assert json.loads(out)["damaged"]
