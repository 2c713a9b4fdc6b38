"""The dataset card: what programs read of it, and what people do."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from lightgen.export.card import _cell
from lightgen.export.facts import KINDS, Export, hub_licence, size_category
from lightgen.export.folder import export_dataset
from lightgen.export.rows import SIDES, TABLES
from lightgen.stages.select import SelectConfig, select
from lightgen.stages.source import SourceConfig, source
from lightgen.storage.store import Store, open_or_create
from lightgen.work import Context, RunConfig
from tests.lightgen.export.conftest import Exported, World


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_or_create(str(tmp_path / "store"))


def matter(folder: Path) -> dict[str, Any]:
    _, front, _ = (folder / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(front)


def test_the_hub_finds_what_it_reads(exported: Exported) -> None:
    found = matter(exported("kept", name="our-set"))
    assert (found["license"], found["license_name"]) == ("other", "cc-by-4.0-and-cc0-1.0")
    assert (found["pretty_name"], found["size_categories"]) == ("our-set", ["n<1K"])
    assert found["task_categories"] == ["text-to-image"]
    assert found["configs"][0]["data_files"] == [{"split": "train", "path": "data/train-*.parquet"}]


def test_the_library_of_the_hub_takes_the_card(exported: Exported) -> None:
    from huggingface_hub import DatasetCard

    card = DatasetCard.load(exported("kept", licence="CC-BY-4.0") / "README.md")
    assert card.data.license == "cc-by-4.0"
    assert card.data.to_dict()["dataset_info"]["splits"][0]["name"] == "train"


def test_people_read_how_it_was_made(world: World, exported: Exported) -> None:
    text = (exported("kept") / "README.md").read_text()
    kept, drawn = len(world.rows("kept")), len(world.rows("images"))
    assert f"Kept images: {kept} rows in one file" in text
    assert "| select |  | 1 | 0 | 31 | 30 | 1 |" in text
    assert f"| filter |  | 1 | 3 | {drawn} | {kept} | {drawn - kept} |" in text
    assert f"| dull | {drawn - kept} |" in text
    assert "| generate | scenes | 1 | 3 | 30 | 30 | 0 |" in text
    assert f"| scenes | {kept} |" in text
    assert "| pixels_contrast | float32 | greatest standard deviation of red, green and blue" in text
    said = {line.split("|")[1].strip(): int(line.split("|")[3]) for line in text.splitlines() if "| CC" in line}
    assert sum(said.values()) == kept
    assert set(said) == {"ours", "theirs"}


def test_evaluation_lists_are_named_or_it_is_said_that_there_were_none(store: Store, tmp_path: Path) -> None:
    """With the real stages: `sealed` versions have no inputs."""
    context = Context(store, seed=1, run=RunConfig(device="cpu"))
    (tmp_path / "captions.txt").write_text("a red bird on a wall\ntwo dogs and a cat\na photo of a bench\n")
    (tmp_path / "test.txt").write_text("a bench\n")
    given = {"kind": "text", "path": str(tmp_path / "captions.txt"), "source": "ours", "licence": "CC0-1.0"}
    found = source(SourceConfig.model_validate({"corpora": [given]}), context)
    lists = [{"kind": "text", "path": str(tmp_path / "test.txt"), "source": "mine"}]
    for evaluation, told in ((lists, "| mine | 1 | "), ([], "`select` was given no evaluation list")):
        chosen = select(found, SelectConfig.model_validate({"evaluation": evaluation}), context)
        folder = tmp_path / f"set{len(evaluation)}"
        export_dataset(store.open(chosen), store, str(folder), Export())
        text = (folder / "README.md").read_text()
        assert told in text
        assert ("| contaminated | 1 |" in text) == bool(evaluation)
        assert str(tmp_path) not in text + (folder / "croissant.json").read_text(), "no path of the machine"


@pytest.mark.parametrize(
    ("found", "given", "expected"),
    [
        (["CC-BY-4.0"], "", "cc-by-4.0"),
        (["CC-BY-4.0", "CC0-1.0"], "", "other"),
        (["CC-BY-4.0", "unknown"], "", "other"),
        (["unknown", "none"], "", "unknown"),
        ([], "", "unknown"),
        (["ask us"], "", "other"),
        (["CC-BY-4.0", "unknown"], "CC0-1.0", "cc0-1.0"),
        ([], "ours alone", "other"),
    ],
)
def test_one_licence_is_claimed_only_where_all_rows_have_it(found: list[str], given: str, expected: str) -> None:
    assert hub_licence(found, given) == expected


@pytest.mark.parametrize(
    ("rows", "expected"),
    [(0, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (99_999, "10K<n<100K"), (2_000_000, "1M<n<10M"), (10**10, "n>1B")],
)
def test_sizes_have_the_words_of_the_hub(rows: int, expected: str) -> None:
    assert size_category(rows) == expected


def test_text_from_outside_is_no_markup(exported: Exported) -> None:
    assert _cell("a|b\n<script>[x](y)") == r"a\|b &lt;script>\[x](y)"
    assert "| web\\|site | MIT | 2 |" in (exported("joined") / "README.md").read_text()


def test_every_kind_that_is_exported_is_explained() -> None:
    assert set(KINDS) == {*SIDES, *TABLES}
