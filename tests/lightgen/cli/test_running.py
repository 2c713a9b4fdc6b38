"""`lightgen run`: a recipe without a server, whole or until a step; what is made is found again."""

import re

import pytest

from lightgen.storage.store import open_or_create, open_store
from tests.lightgen.cli.terminal import lightgen

TINY = "tests/recipes/tiny.yaml"


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Calls `lightgen run` on a store of its own: (exit code, out, err)."""

    def call(*arguments):
        command = ("run", *arguments, "--store", str(tmp_path / "store"))
        return lightgen(*command, monkeypatch=monkeypatch, capsys=capsys)

    return call


def made(out: str) -> dict[str, str]:
    """What was made, by name of the step."""
    return dict(re.findall(r"^(\S+) +(\w+@[0-9a-f]{12}) ", out, re.MULTILINE))


def test_until_makes_a_step_and_what_it_needs_and_nothing_else(run, tmp_path) -> None:
    code, out, _ = run(TINY, "--until", "filter")
    assert code == 0
    assert list(made(out)) == ["source", "select", "generate", "score-pixels", "filter"]
    store = open_store(str(tmp_path / "store"))
    assert [entry.role for entry in store.log("kept")] == ["train"]
    for kind in ("features", "vae", "checkpoint", "report"):
        assert store.log(kind) == []
    assert store.open("captions@train").ref.rows == 48


def test_until_takes_the_name_of_a_stage_for_all_its_steps(run) -> None:
    _, out, _ = run(TINY, "--until", "select")
    assert list(made(out)) == ["source", "select"], "a step of that name comes before a stage"
    _, out, _ = run(TINY, "--until", "source", "--until", "select-test")
    assert list(made(out)) == ["source", "source-test", "select-test"]


def test_what_is_made_is_found_again(run) -> None:
    first, again = run(TINY, "--until", "select")[1], run(TINY, "--until", "select")[1]
    assert made(first) == made(again)
    other = run(TINY, "--until", "select", "--set", "seed=8")[1]
    assert made(other) != made(first)


def test_rows_that_were_taken_over_are_said(run, tmp_path, monkeypatch, capsys) -> None:
    assert "taken over" not in run(TINY, "--until", "generate")[1]
    _, out, _ = run(TINY, "--until", "generate", "--set", "source.corpora.0.count=54")
    assert re.search(r"^generate .* 54 rows, 48 of them taken over$", out, re.MULTILINE)
    store = str(tmp_path / "store")
    shown = lightgen("show", "images", "--store", store, monkeypatch=monkeypatch, capsys=capsys)[1]
    assert "54 in = 54 out + 0 rejected, 48 of them taken over from other versions" in shown


def test_an_unknown_step_names_those_there_are_and_makes_nothing(run, tmp_path) -> None:
    code, _, err = run(TINY, "--until", "filtr")
    assert code == 2
    assert "no step 'filtr'; it has source, select, generate" in err.replace("\n", " ")
    assert open_or_create(str(tmp_path / "store")).log("captions") == []


def test_a_setting_without_a_value_is_refused(run) -> None:
    code, _, err = run(TINY, "--set", "seed")
    assert code == 2
    assert "write KEY=VALUE" in err
