"""The tars as `webdataset` and `tar` read them."""

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
import webdataset

from lightgen.errors import ConfigError
from tests.lightgen.export.conftest import SMALL, Exported, World

TARS = {"format": "webdataset"}


def samples(folder: Path) -> list[dict[str, Any]]:
    """As somebody reads them who knows the pattern that stands on the card."""
    (pattern,) = [
        line.split('"')[1] for line in (folder / "README.md").read_text().splitlines() if "WebDataset(" in line
    ]
    return list(webdataset.WebDataset(f"{folder}/{pattern}", shardshuffle=False))


@pytest.mark.parametrize("how", [{}, SMALL], ids=["one tar", "three tars"])
def test_samples_are_the_rows(how: dict, world: World, exported: Exported) -> None:
    found = samples(exported("images", **TARS, **how))
    files, licences = world.files("images"), {row["id"]: row["licence"] for row in world.rows("prompts")}
    assert [one["__key__"] for one in found] == list(files)
    for one, row in zip(found, world.rows("images"), strict=True):
        told = json.loads(one["json"])
        assert (one["jpg"], one["txt"].decode()) == (files[row["id"]], row["caption"])
        assert {name: told[name] for name in row} == row
        assert told["licence"] == licences[row["prompt_id"]]


def test_pictures_decode(exported: Exported) -> None:
    folder = exported("kept", **TARS)
    found = list(webdataset.WebDataset(str(folder / "data/train-00000-of-00001.tar"), shardshuffle=False).decode("pil"))
    assert {one["jpg"].size for one in found} == {(32, 32)}
    assert all(one["json"]["pixels_contrast"] > 0 for one in found)


def test_pairs_have_two_pictures_under_one_key(world: World, exported: Exported) -> None:
    found = samples(exported("pairs", **TARS))
    assert [one["__key__"] for one in found] == [row["id"] for row in world.rows("pairs")]
    assert {len(one["winner.png"]) > 0 and one["winner.png"] != one["loser.png"] for one in found} == {True}


def test_counts_stand_beside_the_tars(world: World, exported: Exported) -> None:
    folder = exported("images", **TARS, **SMALL)
    sizes = json.loads((folder / "data/sizes.json").read_text())
    counted = {
        path.name: len(list(webdataset.WebDataset(str(path), shardshuffle=False)))
        for path in sorted((folder / "data").glob("*.tar"))
    }
    assert sizes == counted
    assert sum(sizes.values()) == len(world.rows("images"))


def test_hugging_face_reads_them_too(world: World, exported: Exported) -> None:
    datasets = pytest.importorskip("datasets")
    folder = exported("images", **TARS, **SMALL)
    found = datasets.load_dataset(str(folder), split="train", cache_dir=str(folder.parent / "cache"))
    assert [row["__key__"] for row in found] == [row["id"] for row in world.rows("images")]
    assert found[0]["jpg"].size == (32, 32)


def test_tar_finds_plain_files_without_owner_or_time(exported: Exported) -> None:
    with tarfile.open(exported("images", **TARS) / "data/train-00000-of-00001.tar") as tar:
        members = tar.getmembers()
    assert {(one.isreg(), one.mtime, one.uid, one.gid, one.mode) for one in members} == {(True, 0, 0, 0, 0o644)}


@pytest.mark.parametrize("name", ["texts"])
def test_vectors_are_no_samples(name: str, exported: Exported) -> None:
    with pytest.raises(ConfigError, match="no form as WebDataset; take --format parquet"):
        exported(name, **TARS)
