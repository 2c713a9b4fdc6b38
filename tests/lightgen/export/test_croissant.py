"""`croissant.json` as mlcroissant reads it: valid, equal to the rows, and a changed byte is noticed."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from tests.lightgen.export.conftest import SMALL, Exported, World

mlc = pytest.importorskip("mlcroissant")


def read(folder: Path) -> Any:
    return mlc.Dataset(folder / "croissant.json")


def records(folder: Path) -> list[dict[str, Any]]:
    """Its records with plain names, text as text."""
    found = []
    for record in read(folder).records("default"):
        plain = {name.removeprefix("default/"): value for name, value in record.items()}
        found.append({name: value.decode() if isinstance(value, bytes) else value for name, value in plain.items()})
    return found


def check_files(folder: Path) -> None:
    """What mlcroissant does with a file that it downloads: compare its digest."""
    from mlcroissant._src.operation_graph.operations import Download

    checks = [one for one in read(folder).operations.operations.nodes if isinstance(one, Download)]
    assert len(checks) == len(list((folder / "data").glob("train-*")))
    for one in checks:
        one.call()


def change_a_byte(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


@pytest.mark.parametrize("how", [{}, SMALL], ids=["one file", "three files"])
@pytest.mark.parametrize("name", ["images", "kept", "scores", "prompts", "joined", "pairs", "links", "report"])
def test_records_are_the_rows(name: str, how: dict, world: World, exported: Exported) -> None:
    rows = records(exported(name, **how))
    expected = {row["id"]: row for row in world.rows("images" if name == "kept" else name)}
    assert [row["id"] for row in rows] == [row["id"] for row in world.rows(name)]
    for row in rows:
        for column, value in expected[row["id"]].items():
            if column not in ("source", "licence"):
                assert row[column] == pytest.approx(value), column


def test_pictures_are_the_pictures(world: World, exported: Exported) -> None:
    import io

    import numpy as np
    from PIL import Image

    for row in records(exported("images")):
        with Image.open(io.BytesIO(world.files("images")[row["id"]])) as image:
            assert np.array_equal(np.asarray(row["image"]), np.asarray(image))


@pytest.mark.parametrize("how", [{}, SMALL, {"format": "webdataset"}], ids=["one", "three", "tars"])
def test_every_file_has_its_digest_and_its_size(how: dict, exported: Exported) -> None:
    folder = exported("kept", **how)
    files = [one for one in json.loads((folder / "croissant.json").read_text())["distribution"] if "sha256" in one]
    assert {one["contentUrl"] for one in files} == {f"data/{one.name}" for one in (folder / "data").glob("train-*")}
    for one in files:
        data = (folder / one["contentUrl"]).read_bytes()
        assert (one["sha256"], one["contentSize"]) == (hashlib.sha256(data).hexdigest(), f"{len(data)} B")
    check_files(folder)


def test_a_changed_byte_stops_who_reads_one_file(exported: Exported) -> None:
    folder = exported("images")
    change_a_byte(folder / "data/train-00000-of-00001.parquet")
    with pytest.raises(Exception) as raised:
        records(folder)
    assert "Hash of downloaded file" in str(raised.value.__cause__)


def test_a_changed_byte_is_found_among_many_files(exported: Exported) -> None:
    folder = exported("images", **SMALL)
    change_a_byte(folder / "data/train-00002-of-00003.parquet")
    with pytest.raises(ValueError, match=r"Hash of downloaded file .*train-00002-of-00003"):
        check_files(folder)


@pytest.mark.parametrize("format", ["parquet", "webdataset"])
def test_mlcroissant_has_nothing_to_say(format: str, exported: Exported) -> None:
    issues = read(exported("kept", format=format, by="us", url="https://example.com/set")).metadata.ctx.issues
    assert (issues.errors, issues.warnings) == (set(), set())


def test_it_says_whose_the_rows_are_and_how_they_were_made(world: World, exported: Exported) -> None:
    told = json.loads((exported("kept", by="us", url="https://example.com/set") / "croissant.json").read_text())
    assert told["license"] == [f"https://spdx.org/licenses/{name}.html" for name in ("CC-BY-4.0", "CC0-1.0")]
    assert (told["creator"]["name"], told["url"]) == ("us", "https://example.com/set")
    assert told["rai:machineAnnotationTools"] == ["pixels"]
    refused = len(world.rows("images")) - len(world.rows("kept"))
    assert f"filter (revision 1, seed 3): 30 rows in, {30 - refused} out, {refused} dull" in told["rai:dataCollection"]
