"""`lightgen geneval export | import | judge`: what is typed, what is printed, and what is refused with which reason."""

import json
from pathlib import Path

import pytest

from lightgen.storage.store import open_store
from schemas.report import Report
from tests.lightgen.cli.terminal import lightgen
from tests.lightgen.conftest import Chain
from tests.lightgen.geneval_folders import OTHER, RIGHT, line_of, official


@pytest.fixture
def run(monkeypatch, capsys):
    return lambda *arguments: lightgen("geneval", *arguments, monkeypatch=monkeypatch, capsys=capsys)


@pytest.fixture
def store(tmp_path: Path) -> str:
    return str(tmp_path / "store")


def drawn(folder: Path, first: list[str], second: list[str]) -> Path:
    """Two prompts, RIGHT and OTHER, whose pictures show what is given."""
    official(folder, 0, line_of(RIGHT), first)
    official(folder, 1, line_of(OTHER), second)
    return folder


def scores(store: str) -> dict[str, float]:
    opened = open_store(store)
    report = Report.model_validate_json(opened.open("report@latest").file("report.json").read_text())
    assert [model.name for model in report.models] == ["theirs"]
    return {task: share.mean for task, share in report.models[0].tasks.items()}


def judged(run, store: str):
    return run("judge", "prompts@latest", "images@latest", "{kind: scenes}", "--name", "theirs", "--store", store)


def test_a_folder_that_somebody_drew_is_read_and_judged(run, store, tmp_path):
    folder = drawn(tmp_path / "theirs", [RIGHT, OTHER, RIGHT, RIGHT], [OTHER, RIGHT] * 2)
    code, out, _ = run("import", folder, "--licence", "CC0-1.0", "--store", store)
    assert code == 0
    assert [line.split(": ")[1] for line in out.splitlines() if "@" in line] == ["2 rows", "8 rows"]
    rows = open_store(store).open("prompts@latest").table()
    assert set(rows.column("licence").to_pylist()) == {"CC0-1.0"}
    code, out, _ = judged(run, store)
    assert code == 0
    assert "report@" in out
    assert "theirs" in out
    assert scores(store) == {"position": 0.75, "counting": 0.5}
    assert run("import", folder, "--licence", "CC0-1.0", "--store", store)[0] == 0
    assert len(open_store(store).versions("images")) == 1, "the same folder is the same version"


def test_pictures_of_other_prompts_are_judged_wrong(run, store, tmp_path):
    run("import", drawn(tmp_path / "swapped", [OTHER] * 2, [RIGHT] * 2), "--store", store)
    assert judged(run, store)[0] == 0
    assert scores(store) == {"position": 0.0, "counting": 0.0}


def test_what_is_written_comes_back_the_same(run, store, tmp_path):
    folder, again = drawn(tmp_path / "theirs", [RIGHT, OTHER], [OTHER]), tmp_path / "again"
    run("import", folder, "--store", store)
    code, out, _ = run("export", "images@latest", "-", again, "--store", store)
    assert code == 0
    assert "3 images of 2 prompts" in out

    def files(root: Path) -> dict[str, bytes]:
        return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*.png")}

    assert files(again) == files(folder)
    assert [json.loads((again / f"0000{n}/metadata.jsonl").read_text()) for n in (0, 1)] == [
        line_of(RIGHT),
        line_of(OTHER),
    ]


def test_images_of_a_run_are_written_in_the_order_of_the_metadata_and_the_rest_is_told(run, chain: Chain, tmp_path):
    captions = chain.store.open(chain.images).table(columns=["caption"])["caption"].to_pylist()
    known = sorted(set(captions), reverse=True)[:2]
    path = tmp_path / "metadata.jsonl"
    path.write_text("".join(json.dumps({**line_of(text), "prompt": text}) + "\n" for text in (*known, OTHER)))
    image = f"images@{chain.images.version}"
    code, out, err = run("export", image, path, tmp_path / "out", "--store", chain.store.uri)
    kept = sum(captions.count(text) for text in known)
    assert code == 0, err
    assert f"{kept} images of 2 prompts" in out
    assert "1 prompts of the metadata have no image" in out
    assert f"{len(captions) - kept} images have captions that the metadata do not know" in out
    lines = [json.loads(one.read_text())["prompt"] for one in sorted((tmp_path / "out").glob("*/metadata.jsonl"))]
    assert lines == known


def test_every_wording_of_a_scene_is_a_prompt_of_its_own(run, chain: Chain, store, tmp_path):
    drawn = chain.store.open(chain.images).table(columns=["caption"])["caption"].to_pylist()
    assert any(line_of(text)["prompt"] != text for text in drawn), "else this shows nothing"
    code, out, err = run("export", f"images@{chain.images.version}", "-", tmp_path / "out", "--store", chain.store.uri)
    assert code == 0, err
    assert f"{len(drawn)} images of {len(set(drawn))} prompts" in out
    assert run("import", tmp_path / "out", "--store", store)[0] == 0
    again = open_store(store).open("images@latest").table(columns=["caption"])["caption"].to_pylist()
    assert sorted(again) == sorted(drawn)


def test_a_folder_that_is_there_is_not_written_over(run, chain: Chain, tmp_path):
    (tmp_path / "out").mkdir()
    code, _, err = run("export", f"images@{chain.images.version}", "-", tmp_path / "out", "--store", chain.store.uri)
    assert code == 2
    assert "is there already; name a new folder" in err
    assert not list((tmp_path / "out").iterdir())


def test_what_is_no_folder_of_genevals_is_refused_and_nothing_is_sealed(run, store, tmp_path):
    (tmp_path / "empty").mkdir()
    code, _, err = run("import", tmp_path / "empty", "--store", store)
    assert code != 0
    assert "no folders 00000, 00001" in err
    official(tmp_path / "bad", 0, {"tag": "colours"}, [RIGHT])
    code, _, err = run("import", tmp_path / "bad", "--store", store)
    assert code != 0
    assert "metadata.jsonl: not a line of GenEval's metadata" in err
    assert open_store(store).versions("images") == []


def test_a_picture_that_cannot_be_read_is_a_reject_with_its_reason_and_counts_as_wrong(run, store, tmp_path):
    folder = drawn(tmp_path / "theirs", [RIGHT, RIGHT], [OTHER, OTHER])
    (folder / "00000/samples/0001.png").write_bytes(b"no picture")
    assert run("import", folder, "--store", store)[0] == 0
    images = open_store(store).open("images@latest")
    assert images.rows == 3
    rejected = images.rejects().to_pylist()
    assert len(rejected) == 1
    assert "0001.png" in rejected[0]["detail"]
    (folder / "00000/samples/0001.png").unlink()
    assert judged(run, store)[0] == 0
    assert scores(store) == {"position": 0.5, "counting": 1.0}


@pytest.mark.parametrize(
    ("detector", "said"),
    [("{kind: eagle}", "eagle"), ("{kind: scenes, sure: 2", "detector"), ("{kind: mask2former, flor: 1}", "flor")],
)
def test_a_detector_that_cannot_be_is_refused_by_name(run, store, tmp_path, detector, said):
    run("import", drawn(tmp_path / "theirs", [RIGHT], [OTHER]), "--store", store)
    code, _, err = run("judge", "prompts@latest", "images@latest", detector, "--store", store)
    assert code == 2
    assert said in err
    assert open_store(store).versions("scores") == []


def test_prompts_of_a_run_are_not_what_judge_wants(run, chain: Chain):
    refs = (f"prompts@{chain.prompts.version}", f"images@{chain.images.version}")
    code, _, err = run("judge", *refs, "{kind: scenes}", "--store", chain.store.uri)
    assert code == 2
    assert "take PROMPTS of `lightgen geneval import`" in err
