"""The folder as a user of Hugging Face `datasets` reads it: rows, types, pictures."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lightgen.storage.feature_codec import latents_from_table, text_from_table
from tests.lightgen.export.conftest import LICENCES, SMALL, Exported, World

datasets = pytest.importorskip("datasets")


def loaded(folder: Path, split: str = "train") -> Any:
    return datasets.load_dataset(str(folder), split=split, cache_dir=str(folder.parent / "cache"))


def undecoded(found: Any, *columns: str) -> list[dict[str, Any]]:
    """Rows with pictures as bytes."""
    for column in columns:
        found = found.cast_column(column, datasets.Image(decode=False))
    return found.to_list()


@pytest.mark.parametrize("how", [{}, SMALL], ids=["one file", "three files"])
def test_images_come_back_byte_for_byte_and_as_pictures(how: dict, world: World, exported: Exported) -> None:
    found = loaded(exported("images", **how))
    assert found[0]["image"].size == (32, 32)
    licence = {row["id"]: (row["source"], row["licence"]) for row in world.rows("prompts")}
    expected = []
    for row in world.rows("images"):
        source, said = licence[row["prompt_id"]]
        file = {"bytes": world.files("images")[row["id"]], "path": f"{row['id']}.jpg"}
        expected.append({"image": file, **row, "source": source, "licence": said})
    assert undecoded(found, "image") == expected
    assert {row["licence"] for row in expected} == set(LICENCES.values())


def test_kept_images_come_with_their_scores_and_no_other_images_come(world: World, exported: Exported) -> None:
    rows = undecoded(loaded(exported("kept", **SMALL)), "image")
    kept = [row["id"] for row in world.rows("kept")]
    assert [row["id"] for row in rows] == kept
    assert 0 < len(kept) < len(world.rows("images"))
    scores = {row["id"]: row for row in world.rows("scores")}
    for row in rows:
        assert (row["pixels_contrast"], row["pixels_phash"]) == (
            scores[row["id"]]["contrast"],
            scores[row["id"]]["phash"],
        )
        assert hashlib.sha256(row["image"]["bytes"]).hexdigest() == row["image_sha256"]


def test_pairs_have_both_pictures(world: World, exported: Exported) -> None:
    rows = undecoded(loaded(exported("pairs")), "winner", "loser")
    files: dict[str, bytes] = {}
    for ref in world.version("pairs").parents:
        files |= {id: data["png"] for id, data in world.store.open(ref).samples(0)}
    assert [row["id"] for row in rows] == [row["id"] for row in world.rows("pairs")]
    for row in rows:
        assert (row["winner"]["bytes"], row["loser"]["bytes"]) == (files[row["winner_id"]], files[row["loser_id"]])
        assert row["licence"] is None, "nobody said it"


@pytest.mark.parametrize("name", ["prompts", "scores", "links", "report"])
def test_tables_come_back_row_for_row(name: str, world: World, exported: Exported) -> None:
    assert loaded(exported(name, split="validation"), "validation").to_list() == world.rows(name)


def test_vectors_are_bytes_whose_shape_is_said(world: World, exported: Exported) -> None:
    folder = exported("texts")
    assert loaded(folder).to_list() == world.rows("texts")
    assert "| text | binary | dtype: float16; shape: text_tokens,8 |" in (folder / "README.md").read_text()


def test_texts_in_8_bits_leave_as_the_numbers_that_training_reads(world: World, exported: Exported) -> None:
    folder = exported("texts8")
    words, tokens = text_from_table(world.version("texts8").table())
    for row, own in zip(loaded(folder), words.split(tokens.tolist()), strict=True):
        found = np.frombuffer(row["text"], np.float16).reshape(row["text_tokens"], 64)
        assert np.array_equal(found, own.numpy())
    assert "| text | binary | dtype: float16; shape: text_tokens,64 |" in (folder / "README.md").read_text()


def test_deviations_in_8_bits_leave_as_the_numbers_that_training_reads(world: World, exported: Exported) -> None:
    means, stds = latents_from_table(world.version("features8").table())
    for row, mean, std in zip(loaded(exported("features8")), means, stds, strict=True):
        for name, own in (("latent_mean", mean), ("latent_std", std)):
            assert np.array_equal(np.frombuffer(row[name], np.float16).reshape(2, 4, 4), own.numpy()), name


def test_joined_images_keep_the_licence_that_each_has(world: World, exported: Exported) -> None:
    rows = undecoded(loaded(exported("joined")), "image")
    prompts = {row["id"]: row["licence"] for row in world.rows("prompts")}
    assert [row["licence"] for row in rows] == [prompts.get(row["prompt_id"], "MIT") for row in rows]
    assert [row["source"] for row in rows][-2:] == ["web|site"] * 2
    assert len(rows) == 32


def test_types_are_those_that_the_card_and_the_file_say(exported: Exported) -> None:
    folder = exported("kept")
    by_card = datasets.load_dataset_builder(str(folder), cache_dir=str(folder.parent / "cache")).info.features
    by_file = datasets.load_dataset(
        "parquet", data_files=str(folder / "data/*.parquet"), split="train", cache_dir=str(folder.parent / "other")
    ).features
    assert by_card == by_file
    assert by_file["image"] == datasets.Image()
    assert by_file["pixels_phash"] == datasets.Value("uint64")


def test_a_folder_without_one_of_its_files_is_refused(exported: Exported) -> None:
    folder = exported("images", **SMALL)
    (folder / "data/train-00001-of-00003.parquet").unlink()
    with pytest.raises(Exception, match=r"(?i)split"):
        loaded(folder)


def test_rows_stream_too(world: World, exported: Exported) -> None:
    stream = datasets.load_dataset(str(exported("images", **SMALL)), split="train", streaming=True)
    assert [row["id"] for row in stream] == [row["id"] for row in world.rows("images")]
