"""Commands in the documents are commands that there are, with arguments and options that they take."""

import re
import shlex
from pathlib import Path

import pytest
import typer.main
import yaml

from lightgen.cli import app
from lightgen.recipe import Recipe

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
FENCED = re.compile(r"^```[a-z]*\n(.*?)^```", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`(lightgen [a-z][^`\n]*)`")


def commands(path: Path) -> list[str]:
    """Lines that start with `lightgen` in blocks of code, and whole commands in running text, without comments."""
    text = path.read_text(encoding="utf-8")
    blocks = "\n".join(FENCED.findall(text)).replace("\\\n", " ")
    lines = [line.strip() for line in blocks.splitlines() if line.strip().startswith("lightgen ")]
    return [re.split(r"\s+#\s|\s[|>]\s", line)[0] for line in [*lines, *INLINE.findall(FENCED.sub("", text))]]


FOUND = [(path, command) for path in DOCUMENTS for command in commands(path)]


def test_commands_are_found():
    assert len(FOUND) > 40
    assert "lightgen ls" in [command for _, command in FOUND]


@pytest.mark.parametrize(("path", "command"), FOUND, ids=[f"{path.stem}: {command}" for path, command in FOUND])
def test_it_is_a_command(path, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for word in shlex.split(command):
        (tmp_path / word.replace("/", "_")).touch()  # some arguments are files that are there
    check(re.sub(r"\bN\b", "1000", command), whole=" " in command.removeprefix("lightgen "))


@pytest.mark.parametrize(
    "command",
    ["lightgen show --rejects images", "lightgen nonsense", "lightgen ls --nothing", "lightgen gc --grace-days soon"],
)
def test_a_command_that_is_none_is_noticed(command):
    with pytest.raises(Exception, match=r"No such option|not a valid|valid number|nonsense"):
        check(command, whole=True)


def check(command: str, whole: bool) -> None:
    """Parse a command as the command line would; a bare name in running text need not have its arguments."""
    words = shlex.split(command)[1:]
    parser = typer.main.get_command(app)
    while words and hasattr(parser, "commands"):
        parser = parser.commands[words.pop(0)]  # pyright: ignore[reportAttributeAccessIssue]
    if whole and words:
        parser.make_context("lightgen", words)


def test_make_targets_are_those_of_the_makefile():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {name for path in DOCUMENTS for name in re.findall(r"`make ([a-z-]+)`", path.read_text(encoding="utf-8"))}
    assert named
    assert named <= targets


BEGUN = {"source": {"corpora": [{"kind": "scenes", "split": "train", "count": 6}]}, "select": {}}


@pytest.mark.parametrize(
    "block", re.findall(r"^```yaml\n(.*?)^```", (ROOT / "docs/generators.md").read_text(), re.DOTALL | re.MULTILINE)
)
def test_recipes_of_the_page_on_generators_are_recipes(block):
    given = yaml.safe_load(block.replace("<40 hex digits>", "a" * 40))
    begun = {} if "pictures" in given else BEGUN
    Recipe.model_validate({"name": "of the page", **begun, **given})
