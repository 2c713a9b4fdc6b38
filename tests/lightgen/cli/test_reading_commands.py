"""No command that reads makes a store: a mistyped path is an error of the person who typed it."""

import sys

import pytest
import typer.main

from lightgen import cli
from lightgen.cli import app

# Commands for a store that need not be there yet.
CREATORS = {"run", "work", "plan", "rehearse", "import-official", "ablate", "volume", "job"}


def reading_commands() -> dict[str, int]:
    """Every command with a `--store`, and how many arguments it takes."""
    commands = typer.main.get_command(app).commands  # pyright: ignore[reportAttributeAccessIssue]
    return {
        name: sum(one.param_type_name == "argument" for one in command.params)
        for name, command in commands.items()
        if name not in CREATORS and any(one.name == "store" for one in command.params)
    }


@pytest.mark.parametrize("name", reading_commands())
@pytest.mark.parametrize("place", ["missing", "empty folder", "file"])
def test_a_mistyped_store_is_an_error_and_stays_as_it_was(name, place, tmp_path, monkeypatch, capsys) -> None:
    mistyped = tmp_path / "stroe"
    (tmp_path / "captions").write_bytes(b"both a ref and, for commands that want one, a file that is there")
    if place == "empty folder":
        mistyped.mkdir()
    elif place == "file":
        mistyped.write_bytes(b"not a store")
    monkeypatch.chdir(tmp_path)
    arguments = ["captions"] * reading_commands()[name]
    monkeypatch.setattr(sys, "argv", ["lightgen", name, *arguments, "--store", str(mistyped)])
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SystemExit) as ended:
        cli.main()
    error = capsys.readouterr().err.replace("\n", "")
    assert ended.value.code == 2, error
    assert f"there is no store at {mistyped}" in error
    assert sorted(tmp_path.rglob("*")) == before


def test_the_commands_are_found() -> None:
    expected = {
        "ls",
        "show",
        "verify",
        "diff",
        "trace",
        "gallery",
        "tag",
        "retire",
        "gc",
        "generate",
        "export",
        "sweep",
    }
    assert reading_commands().keys() >= expected
