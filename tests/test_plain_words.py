"""The words of the code, its messages and its pages: those of the field, one for each idea."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# What stands for each: repair or fix, again, depend on, is done.
ODD = re.compile(r"\bmend(s|ed|ing)?\b|\banew\b|\bh[au]ngs? on\b|\bis through\b", re.IGNORECASE)
PLACES = (
    "lightgen",
    "tasks",
    "flows",
    "schemas",
    "docs",
    "recipes",
    "deploy",
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
)
TEXTS = {".py", ".md", ".yaml", ".html", ".json", ".txt"}


def files() -> list[Path]:
    every = [
        path for place in PLACES for path in ((ROOT / place).rglob("*") if (ROOT / place).is_dir() else [ROOT / place])
    ]
    return [path for path in every if path.suffix in TEXTS and path.is_file()]


def odd(text: str) -> list[str]:
    return [found[0] for found in ODD.finditer(text)]


def test_the_words_are_plain() -> None:
    found = {str(path.relative_to(ROOT)): words for path in files() if (words := odd(path.read_text(encoding="utf-8")))}
    assert found == {"schemas/audit.py": ["mend"]}, "the key of old audits"
    assert [path.name for path in files() if odd(path.stem.replace("-", " "))] == []


@pytest.mark.parametrize("text", ["what waiting mends", "made anew", "it hangs on the seed", "the run is through"])
def test_odd_words_are_found(text: str) -> None:
    assert odd(text)


def test_plain_words_are_no_odd_ones() -> None:
    assert not odd("a lamp hangs above a table; a recommended amendment; it depends on the seed; through all stages")
