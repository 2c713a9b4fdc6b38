"""`lightgen export` of rows: what is typed, what is printed, and what is refused."""

from pathlib import Path

import pytest

from tests.lightgen.cli.terminal import lightgen
from tests.lightgen.conftest import Chain


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, chain: Chain):
    """Calls `lightgen export ARGUMENTS` in an empty folder: (exit code, out, err)."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> tuple[int, str, str]:
        given = ("export", *arguments, "--store", chain.store.uri)
        return lightgen(*given, monkeypatch=monkeypatch, capsys=capsys)

    return call


def test_rows_become_a_folder(run, chain: Chain, tmp_path: Path) -> None:
    code, out, err = run(f"kept@{chain.kept.version}", "set", "--name", "ours")
    assert code == 0
    assert out.startswith(f"wrote set: ours, {chain.kept.rows} rows, 1 files, ")
    assert "licence unknown" in out
    assert "--licence says what holds for all" in out
    assert f"{chain.kept.rows}/{chain.kept.rows} rows" in err
    assert "/s" in err, "progress has its rate"
    names = sorted(str(path.relative_to(tmp_path / "set")) for path in (tmp_path / "set").rglob("*.*"))
    assert names == ["README.md", "croissant.json", "data/train-00000-of-00001.parquet"]


def test_a_folder_is_not_written_twice(run, chain: Chain) -> None:
    assert run(f"prompts@{chain.prompts.version}", "set")[0] == 0
    code, _, err = run(f"prompts@{chain.prompts.version}", "set")
    assert code == 2
    assert "is not an empty folder; nothing was written. Name a new one" in err


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("vae", (), "there is no form for vae. Give one of audit, captions, checkpoint, features"),
        ("kept", ("--text-encoder",), "is no student: --text-encoder has no meaning"),
        ("checkpoint", ("--split", "test"), "is a student: options that tell of a dataset have no meaning"),
        ("features", ("--format", "webdataset"), "has no form as WebDataset; take --format parquet"),
        ("kept", ("--split", "../up"), "--split '../up'"),
    ],
)
def test_what_has_no_meaning_is_refused(kind: str, options: tuple, message: str, run, chain: Chain, tmp_path) -> None:
    code, _, err = run(f"{kind}@{chain.refs[kind].version}", "set", *options)
    assert code == 2
    assert message in " ".join(err.split())
    assert list(tmp_path.iterdir()) == []
