"""A folder is whole or not there; it is the same each time; nothing that was refused is in it."""

import hashlib
import shutil
from pathlib import Path
from typing import Any

import pytest

from lightgen.errors import ConfigError, Evicted, StoreCorrupt
from lightgen.export.facts import Export
from lightgen.export.folder import export_dataset, grouped
from lightgen.storage.shards import ShardOutput
from lightgen.storage.store import open_or_create
from schemas.kept import SCHEMA as KEPT
from tests.lightgen import sealed
from tests.lightgen.export.conftest import SECRET, SMALL, Exported, World

FORMATS = pytest.mark.parametrize("format", ["parquet", "webdataset"])


class Killed(BaseException):
    """Nobody catches it."""


class Progress:
    """Counts rows, and may end the process so to say."""

    def __init__(self, killed_after: int | None = None) -> None:
        self.killed_after, self.rows, self.found = killed_after, 0, 0

    def start(self, title: str, total: int, unit: str, done: int = 0) -> None:
        self.total, self.found = total, done

    def advance(self, count: int, note: str = "") -> None:
        self.rows += count
        if self.killed_after is not None and self.rows > self.killed_after:
            raise Killed

    def picture(self, path: Path) -> None: ...
    def finish(self) -> None: ...


def contents(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@FORMATS
@pytest.mark.parametrize("name", ["kept", "pairs"])
def test_a_version_gives_the_same_bytes_each_time(name: str, format: str, exported: Exported) -> None:
    how: dict[str, Any] = {"format": format, **SMALL}
    assert contents(exported(name, to="a", **how)) == contents(exported(name, to="b", **how))


@FORMATS
def test_a_kill_leaves_no_folder_and_the_next_run_goes_on(
    format: str, world: World, exported: Exported, tmp_path: Path
) -> None:
    how, version = Export(format=format, file_bytes=1), world.version("images")  # pyright: ignore[reportArgumentType]
    with pytest.raises(Killed):
        export_dataset(version, world.store, tmp_path / "set", how, Progress(killed_after=10))
    assert not (tmp_path / "set").exists()
    (partial,) = tmp_path.glob(".set.*.partial")
    ending = {"parquet": "parquet", "webdataset": "tar"}[format]
    (done,) = partial.glob(f"data/*.{ending}")
    before = done.stat().st_mtime_ns
    again = Progress()
    export_dataset(version, world.store, tmp_path / "set", how, again)
    assert (again.found, again.rows) == (10, 20), "the first file was not written again"
    assert (tmp_path / "set/data" / done.name).stat().st_mtime_ns == before
    assert contents(tmp_path / "set") == contents(exported("images", to="whole", format=format, **SMALL))
    assert list(tmp_path.glob(".set*")) == []


def test_a_finished_file_that_was_changed_is_written_again(world: World, exported: Exported, tmp_path: Path) -> None:
    version, how = world.version("images"), Export(file_bytes=1)
    with pytest.raises(Killed):
        export_dataset(version, world.store, tmp_path / "set", how, Progress(killed_after=10))
    (done,) = tmp_path.glob(".set.*.partial/data/*.parquet")
    done.write_bytes(done.read_bytes()[:-1] + b"?")
    export_dataset(version, world.store, tmp_path / "set", how)
    assert contents(tmp_path / "set") == contents(exported("images", to="whole", **SMALL))


def test_other_settings_do_not_go_on_with_what_is_there(world: World, exported: Exported, tmp_path: Path) -> None:
    version = world.version("images")
    with pytest.raises(Killed):
        export_dataset(version, world.store, tmp_path / "set", Export(file_bytes=1), Progress(killed_after=10))
    other = Progress()
    export_dataset(version, world.store, tmp_path / "set", Export(file_bytes=1, split="test"), other)
    assert (other.found, other.rows) == (0, 30)


def test_a_folder_with_something_in_it_is_left_alone(exported: Exported, tmp_path: Path) -> None:
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset/mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is not an empty folder; nothing was written"):
        exported("images")
    assert contents(tmp_path) == {"dataset/mine.txt": hashlib.sha256(b"mine").hexdigest()}


def test_an_empty_folder_is_taken(exported: Exported, tmp_path: Path) -> None:
    (tmp_path / "dataset").mkdir()
    assert (exported("images") / "README.md").exists()


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"split": "a/b"}, r"--split 'a/b': letters, digits"),
        ({"split": ""}, "--split ''"),
        ({"to": "no/where"}, "make it"),
    ],
)
def test_what_cannot_be_written_is_refused(how: dict, message: str, exported: Exported) -> None:
    with pytest.raises(ConfigError, match=message):
        exported("images", **how)


def test_what_was_refused_stays_in_the_store(world: World, exported: Exported) -> None:
    kept = {row["id"] for row in world.rows("kept")}
    refused = [id for id in world.files("images") if id not in kept]
    folder = exported("kept", format="webdataset")
    written = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert refused
    assert [id for id in refused if id.encode() in written] == []
    assert all(id.encode() in written for id in kept)
    prompts = exported("prompts", to="prompts", format="webdataset")
    written = b"".join(path.read_bytes() for path in prompts.rglob("*") if path.is_file())
    assert SECRET.encode() not in written
    assert b"| contaminated | 1 |" in written, "that there was one is said"


def test_a_damaged_store_is_not_handed_on(world: World, tmp_path: Path) -> None:
    copy = open_or_create(str(shutil.copytree(world.store.uri, tmp_path / "copy")))
    (victim, *_) = (tmp_path / "copy/v/images" / world.refs["images"].version).glob("data/*.tar")
    victim.chmod(0o644)
    victim.write_bytes(victim.read_bytes()[:700] + b"?" + victim.read_bytes()[701:])
    with pytest.raises(StoreCorrupt, match="sha256 is not that of the manifest"):
        export_dataset(copy.open(f"kept@{world.refs['kept'].version}"), copy, tmp_path / "set", Export())
    assert not (tmp_path / "set").exists()


def test_evicted_images_are_said_to_be_so(world: World, tmp_path: Path) -> None:
    copy = open_or_create(str(shutil.copytree(world.store.uri, tmp_path / "copy")))
    folder = tmp_path / "copy/v/images" / world.refs["images"].version
    (folder / "evicted.json").write_text("{}")
    for tar in folder.glob("data/*.tar"):
        tar.unlink()
    with pytest.raises(Evicted, match="--redraw"):
        export_dataset(copy.open(f"images@{world.refs['images'].version}"), copy, tmp_path / "set", Export())


def test_no_rows_are_no_dataset(world: World, tmp_path: Path) -> None:
    empty = ShardOutput(KEPT.empty_table(), 0, KEPT)
    ref = sealed.seal(world.store, "kept", [empty], [world.refs["images"]], stage="filter")
    with pytest.raises(ConfigError, match="holds no rows: there is nothing to export"):
        export_dataset(world.store.open(ref), world.store, tmp_path / "set", Export())


@pytest.mark.parametrize(
    ("sizes", "limit", "expected"),
    [
        ([5, 5, 5], 10, [[0, 1], [2]]),
        ([20, 1, 1], 10, [[0], [1, 2]]),
        ([1, 20, 1], 10, [[0], [1], [2]]),
        ([0, 0, 0], 10, [[0, 1, 2]]),
        ([5], 1, [[0]]),
    ],
)
def test_shards_share_files_in_their_order(sizes: list[int], limit: int, expected: list[list[int]]) -> None:
    assert [list(group) for group in grouped(sizes, limit)] == expected
