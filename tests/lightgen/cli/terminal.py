"""Calls the command line in this process."""

import sys

import pytest

from lightgen import cli
from lightgen.cli import console


def lightgen(
    *arguments: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str, str]:
    """`lightgen ARGUMENTS`: (exit code, out, err)."""
    monkeypatch.setattr(sys, "argv", ["lightgen", *map(str, arguments)])
    # The console was made at import, when another stream was in place.
    monkeypatch.setattr(console.out, "_file", sys.stdout)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    printed = capsys.readouterr()
    return int(ended.value.code or 0), printed.out, printed.err
