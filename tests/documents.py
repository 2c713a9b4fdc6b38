"""Blocks of code in the documents, and how a test runs one; imported by path."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(
    r"(?:Save this as `(?P<file>[^`]+)`:\n\n)?^```(?P<language>[a-z]*)\n(?P<body>.*?)^```", re.DOTALL | re.M
)
SECTION = re.compile(r"^## (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One fenced block; `file` is the name that the text tells a reader to save it under."""

    section: str
    language: str
    body: str
    file: str = ""


def blocks(path: Path) -> list[Block]:
    """All blocks of a page, in order, each with the heading that it stands under."""
    parts = SECTION.split(path.read_text(encoding="utf-8"))
    named = [("", parts[0]), *zip(parts[1::2], parts[2::2], strict=True)]
    return [
        Block(section, found["language"], found["body"], found["file"] or "")
        for section, text in named
        for found in BLOCK.finditer(text)
    ]


def run(block: Block, folder: Path, environment: Mapping[str, str] = {}) -> str:
    """Do in `folder` what a reader would do with a block; what it prints. Fails with that where a command fails."""
    if block.file:
        (folder / block.file).write_text(block.body, encoding="utf-8")
        return ""
    command = {"sh": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}[block.language]
    given = {**_environment(), **environment}
    done = subprocess.run(
        [*command, block.body], cwd=folder, env=given, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert done.returncode == 0, f"{block.body}\nended with {done.returncode}:\n{done.stdout}"
    return done.stdout


def _environment() -> dict[str, str]:
    """That of a reader: the environment is active, and the current folder has a store of its own."""
    here = {name: value for name, value in os.environ.items() if name != "LIGHTGEN_STORE"}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**here, "PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
