"""A store that is partly lost or damaged is still listed, and what is wrong is said."""

from pathlib import Path

import pytest

from lightgen.storage.store import Store, open_or_create
from tests.lightgen.cli.terminal import lightgen
from tests.worked_version import build, plan_of, rows


@pytest.fixture
def store(tmp_path: Path) -> Store:
    opened = open_or_create(str(tmp_path / "store"))
    build(opened, plan_of(), rows)
    build(opened, plan_of(kind="prompts"), rows)
    return opened


def test_ls_lists_the_rest_when_a_version_is_lost(store: Store, monkeypatch, capsys) -> None:
    lost = store.open("captions").ref
    (Path(store.uri) / "v" / "captions" / lost.version / "manifest.json").unlink()
    code, out, _ = lightgen("ls", "--store", store.uri, monkeypatch=monkeypatch, capsys=capsys)
    assert code == 1
    assert f"captions@{lost.version[:12]} is lost" in out
    assert f"{store.open('prompts').ref.version[:12]}" in out


def test_ls_lists_the_other_kinds_when_a_log_is_damaged(store: Store, monkeypatch, capsys) -> None:
    (Path(store.uri) / "refs" / "captions" / "00000001.json").write_bytes(b"{")
    code, out, _ = lightgen("ls", "--store", store.uri, monkeypatch=monkeypatch, capsys=capsys)
    assert code == 1
    assert "the log of captions is damaged" in out
    assert f"{store.open('prompts').ref.version[:12]}" in out


def test_retire_and_its_undo(store: Store, monkeypatch, capsys) -> None:
    def run(*arguments: str) -> str:
        code, out, err = lightgen(*arguments, "--store", store.uri, monkeypatch=monkeypatch, capsys=capsys)
        assert code == 0, err
        return out

    ref = f"captions@{store.open('captions').ref.version}"
    assert "retired captions@" in run("retire", ref)
    assert "retired" in run("ls", "captions")
    assert "restored captions@" in run("retire", ref, "--undo")
    assert "retired" not in run("ls", "captions")
    assert store.open("captions").ref.version in ref


def test_a_role_whose_versions_are_retired_is_said_to_be_so_and_restored_by_its_name(
    store, monkeypatch, capsys
) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        code, out, err = lightgen(*arguments, "--store", store.uri, monkeypatch=monkeypatch, capsys=capsys)
        return code, out + err

    store.publish(store.open("captions").ref, "train")
    assert run("retire", "captions@train")[0] == 0
    code, said = run("show", "captions@train")
    assert (code, "retired)" in said, "captions@train," in said) == (2, True, False)
    assert run("retire", "captions@train", "--undo")[0] == 0
    assert run("show", "captions@train")[0] == 0
