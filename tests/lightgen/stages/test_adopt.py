"""Pictures in GenEval's layout: written, read back, and judged by the code that judges our own."""

import json
from pathlib import Path

import pytest
from PIL import Image

from lightgen.errors import ConfigError, InputChanged, InputCorrupt
from lightgen.evaluation.geneval_folder import read_folder, read_meaning, read_metadata
from lightgen.operations.geneval import export, judge, read_detector
from lightgen.stages import adopt as stage
from lightgen.stages.adopt import METADATA, AdoptConfig, adopt
from lightgen.storage.store import Store, open_or_create
from lightgen.work import Context
from schemas.report import Report
from tests.lightgen.geneval_folders import OTHER, RIGHT, line_of, official, picture
from tests.lightgen.sealed import image, images


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_or_create(str(tmp_path / "store"))


def wrapped(line: dict) -> dict:
    """As a loader of batches of one leaves it."""
    include = [{key: [value] if key != "position" else [[part] for part in value] for key, value in one.items()}
               for one in line["include"]]  # fmt: skip
    return {**line, "tag": [line["tag"]], "prompt": [line["prompt"]], "include": include}


def test_anybodys_pictures_are_judged_by_our_code(tmp_path: Path, store: Store) -> None:
    folder = tmp_path / "drawn"
    official(folder, 0, line_of(RIGHT), [RIGHT, RIGHT, OTHER, RIGHT])
    official(folder, 1, line_of(OTHER), [OTHER, RIGHT, OTHER, OTHER])
    context = Context(store)
    prompts, drawn = adopt(AdoptConfig(folder=str(folder), shard_rows=1), context)
    assert (prompts.rows, drawn.rows, store.open(drawn).n_shards) == (2, 8, 2)
    ref = judge(store.open(prompts), drawn, read_detector("{kind: scenes}"), "theirs", context)
    report = Report.model_validate_json(store.open(ref).file("report.json").read_text())
    assert {task: share.mean for task, share in report.models[0].tasks.items()} == {"position": 0.75, "counting": 0.75}
    moved = folder.rename(tmp_path / "moved")
    assert adopt(AdoptConfig(folder=str(moved), shard_rows=1), context) == (prompts, drawn), "a name has no path"


def test_what_is_written_is_read_back_to_the_byte(tmp_path: Path, store: Store) -> None:
    folder, again = tmp_path / "drawn", tmp_path / "again"
    for number, text in enumerate((RIGHT, OTHER)):
        official(folder, number, line_of(text), [text] * 3)
    prompts, drawn = adopt(AdoptConfig(folder=str(folder)), Context(store))
    done = export(store.open(drawn), str(store.open(prompts).file(METADATA)), again)
    assert (done.prompts, done.images, done.without_images, done.unknown) == (2, 6, 0, 0)
    ours, theirs = read_folder(again), read_folder(folder)
    assert [one.meaning for one in ours] == [one.meaning for one in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert {at: path.read_bytes() for at, path in one.samples.items()} == {
            at: path.read_bytes() for at, path in other.samples.items()
        }
    with pytest.raises(ConfigError, match="there already"):
        export(store.open(drawn), None, again)


def test_other_formats_are_decoded_and_what_is_missing_is_told(tmp_path: Path, store: Store) -> None:
    import io

    out = io.BytesIO()
    Image.fromarray(picture(RIGHT, 0)).save(out, "PNG")
    rows = [image("a", out.getvalue(), RIGHT), image("b", out.getvalue(), "a cat", index=1)]
    path = tmp_path / "metadata.jsonl"
    path.write_text("".join(json.dumps(line_of(text)) + "\n" for text in (RIGHT, OTHER)))
    done = export(store.open(images(store, rows)), str(path), tmp_path / "out")
    assert (done.prompts, done.images, done.without_images, done.unknown) == (1, 1, 1, 1)
    assert (tmp_path / "out/00000/samples/0000.png").read_bytes() == out.getvalue()
    with pytest.raises(ConfigError, match="none of its captions"):
        export(store.open(images(store, rows[1:])), str(path), tmp_path / "none")


def test_metadata_whose_strings_are_in_lists_are_read_as_meant_and_said(
    tmp_path: Path, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    folder, line = tmp_path / "drawn", line_of(RIGHT)
    assert read_meaning(json.dumps(wrapped(line))) == (read_meaning(json.dumps(line))[0], True)
    assert not read_meaning(json.dumps(line))[1]
    official(folder, 0, wrapped(line), [RIGHT])
    adopt(AdoptConfig(folder=str(folder)), Context(store))
    assert "metadata of 1 prompts wrap their strings" in caplog.text
    path = tmp_path / "broken.jsonl"
    path.write_text(json.dumps(wrapped(line)))
    assert set(read_metadata(str(path))[0]) == {RIGHT}


def test_what_is_no_such_folder_or_changes_meanwhile_is_refused(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputCorrupt, match="00000"):
        adopt(AdoptConfig(folder=str(tmp_path / "absent")), Context(store))
    folder = tmp_path / "drawn"
    official(folder, 0, line_of(RIGHT), [RIGHT])
    (folder / "00001").mkdir()
    with pytest.raises(InputCorrupt, match=r"00001.metadata\.jsonl"):
        read_folder(folder)
    (folder / "00001").rmdir()

    real = stage.decode_image

    def meanwhile(data: bytes) -> object:
        Image.fromarray(picture(OTHER, 5)).save(folder / "00000/samples/0001.png")
        return real(data)

    official(folder, 1, line_of(OTHER), [OTHER])
    (folder / "00000/samples/0001.png").write_bytes((folder / "00000/samples/0000.png").read_bytes())
    monkeypatch.setattr(stage, "decode_image", meanwhile)
    with pytest.raises(InputChanged):
        adopt(AdoptConfig(folder=str(folder)), Context(store))


def test_a_picture_that_cannot_be_read_is_a_reject_and_its_prompt_stays(tmp_path: Path, store: Store) -> None:
    folder = tmp_path / "drawn"
    official(folder, 0, line_of(RIGHT), [RIGHT, RIGHT])
    (folder / "00000/samples/0001.png").write_bytes(b"no picture")
    _, drawn = adopt(AdoptConfig(folder=str(folder)), Context(store))
    version = store.open(drawn)
    assert (version.rows, sum(version.reject_reasons.values())) == (1, 1)
