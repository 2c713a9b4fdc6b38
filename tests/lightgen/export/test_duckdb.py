"""SQL over exported folders, and over the store itself: the questions of docs/storage.md."""

from collections import Counter
from pathlib import Path

import pytest

from tests.documents import ROOT, blocks
from tests.lightgen.export.conftest import SMALL, Exported, World

duckdb = pytest.importorskip("duckdb")
QUESTIONS = [block.body for block in blocks(ROOT / "docs/storage.md") if block.language == "sql"]


@pytest.fixture
def folders(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders `kept`, `prompts`, `scores` and `report` in the current folder."""
    for name in ("kept", "prompts", "scores", "report"):
        folder = exported(name, to=name, **SMALL)
    monkeypatch.chdir(folder.parent)
    return folder.parent


def test_rows_by_source_and_licence(folders: Path, world: World) -> None:
    kept = {row["prompt_id"] for row in world.rows("kept")}
    counts = Counter((row["source"], row["licence"]) for row in world.rows("prompts") if row["id"] in kept)
    assert duckdb.sql(QUESTIONS[0]).fetchall() == [(*key, count) for key, count in counts.most_common()]


def test_captions_join_their_scores(folders: Path, world: World) -> None:
    score = {row["id"]: row["contrast"] for row in world.rows("scores")}
    best = sorted(world.rows("kept"), key=lambda row: -score[row["id"]])[:10]
    found = duckdb.sql(QUESTIONS[1]).fetchall()
    assert [row[1] for row in found] == pytest.approx([score[row["id"]] for row in best])
    assert {row[0] for row in found} <= {row["caption"] for row in world.rows("kept")}


def test_prompts_that_lost_all_their_pictures(folders: Path, world: World) -> None:
    kept = {row["prompt_id"] for row in world.rows("kept")}
    lost = {row["caption"] for row in world.rows("prompts") if row["id"] not in kept}
    found = {caption for (caption,) in duckdb.sql(QUESTIONS[2]).fetchall()}
    assert found == lost
    assert lost


def test_right_answers_by_task(folders: Path, world: World) -> None:
    answers: dict[tuple[str, str], list[bool]] = {}
    for row in world.rows("report"):
        answers.setdefault((row["model"], row["task"]), []).append(row["correct"])
    expected = [(*key, sum(found) / len(found), len(found)) for key, found in sorted(answers.items())]
    assert duckdb.sql(QUESTIONS[3]).fetchall() == expected


def test_pictures_are_blobs(folders: Path, world: World) -> None:
    found = dict(duckdb.sql("select id, image.bytes from 'kept/data/*.parquet'").fetchall())
    files = world.files("images")
    assert found == {row["id"]: files[row["id"]] for row in world.rows("kept")}


def test_the_store_is_read_without_an_export(world: World) -> None:
    """Files are named, never found by a pattern: a folder may hold some that no receipt names."""
    paths = {name: world.version(name).paths() for name in ("images", "scores")}
    found = duckdb.execute(
        "select caption, contrast from read_parquet($images) as images join read_parquet($scores) as scores "
        "using (id, caption) order by id",
        paths,
    ).fetchall()
    score = {row["id"]: row["contrast"] for row in world.rows("scores")}
    images = sorted(world.rows("images"), key=lambda row: row["id"])
    assert found == [(row["caption"], pytest.approx(score[row["id"]])) for row in images]
