"""A folder is whole or not there; it is the same each time; nothing that was refused is in it."""

import hashlib
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lightgen.errors import ConfigError, Evicted, StoreCorrupt, TryLater
from lightgen.export import parquet, rows
from lightgen.export.facts import Export
from lightgen.export.folder import export_dataset, grouped
from lightgen.settings import cache_folder, s3_endpoint
from lightgen.storage.pixels import encode_image
from lightgen.storage.s3 import S3Files
from lightgen.storage.shards import ShardOutput
from lightgen.storage.store import open_or_create
from schemas.kept import SCHEMA as KEPT
from tests.documents import ROOT
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


# Ends its own process, as the system would, once more than ten rows are written.
CHILD = """
import os, signal, sys
from lightgen.export.facts import Export
from lightgen.export.folder import export_dataset
from lightgen.progress import Silent
from lightgen.storage.store import open_store

class Deadly(Silent):
    rows = 0
    def advance(self, count, note=""):
        self.rows += count
        if self.rows > 10:
            os.kill(os.getpid(), signal.SIGKILL)

store = open_store(sys.argv[1])
export_dataset(store.open(sys.argv[2]), store, sys.argv[3], Export(format=sys.argv[4], file_bytes=1), Deadly())
"""


@FORMATS
def test_a_kill_leaves_no_folder_and_the_next_run_goes_on(
    format: str, world: World, exported: Exported, tmp_path: Path
) -> None:
    version = world.version("images")
    given = [world.store.uri, f"images@{version.ref.version}", str(tmp_path / "set"), format]
    assert subprocess.run([sys.executable, "-c", CHILD, *given], cwd=ROOT).returncode == -signal.SIGKILL
    assert not (tmp_path / "set").exists()
    (partial,) = tmp_path.glob(".set.*.partial")
    (done,) = partial.glob("folder/data/*")
    before, again = done.stat().st_mtime_ns, Progress()
    how: dict[str, Any] = {"format": format, **SMALL}
    export_dataset(version, world.store, str(tmp_path / "set"), Export(**how), again)
    assert (again.found, again.rows) == (10, 20), "the first file was not written again"
    assert (tmp_path / "set/data" / done.name).stat().st_mtime_ns == before
    assert contents(tmp_path / "set") == contents(exported("images", to="whole", **how))
    assert list(tmp_path.glob(".set*")) == []


def test_a_finished_file_that_was_changed_is_written_again(world: World, exported: Exported, tmp_path: Path) -> None:
    version, how = world.version("images"), Export(file_bytes=1)
    with pytest.raises(Killed):
        export_dataset(version, world.store, str(tmp_path / "set"), how, Progress(killed_after=10))
    (done,) = tmp_path.glob(".set.*.partial/folder/data/*.parquet")
    done.write_bytes(done.read_bytes()[:-1] + b"?")
    export_dataset(version, world.store, str(tmp_path / "set"), how)
    assert contents(tmp_path / "set") == contents(exported("images", to="whole", **SMALL))


def test_two_exports_do_not_write_the_same_files(world: World, tmp_path: Path) -> None:
    class Again(Progress):
        def advance(self, count: int, note: str = "") -> None:
            with pytest.raises(TryLater, match="another export writes"):
                export_dataset(world.version("images"), world.store, str(tmp_path / "set"), Export())
            self.rows += count

    again = Again()
    export_dataset(world.version("images"), world.store, str(tmp_path / "set"), Export(), again)
    assert again.rows == 30


def test_other_settings_do_not_go_on_with_what_is_there(world: World, exported: Exported, tmp_path: Path) -> None:
    version = world.version("images")
    with pytest.raises(Killed):
        export_dataset(version, world.store, str(tmp_path / "set"), Export(file_bytes=1), Progress(killed_after=10))
    other = Progress()
    export_dataset(version, world.store, str(tmp_path / "set"), Export(file_bytes=1, split="test"), other)
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
        export_dataset(copy.open(f"kept@{world.refs['kept'].version}"), copy, str(tmp_path / "set"), Export())
    assert not (tmp_path / "set").exists()


def test_evicted_images_are_said_to_be_so(world: World, tmp_path: Path) -> None:
    copy = open_or_create(str(shutil.copytree(world.store.uri, tmp_path / "copy")))
    folder = tmp_path / "copy/v/images" / world.refs["images"].version
    (folder / "evicted.json").write_text("{}")
    for tar in folder.glob("data/*.tar"):
        tar.unlink()
    with pytest.raises(Evicted, match="--redraw"):
        export_dataset(copy.open(f"images@{world.refs['images'].version}"), copy, str(tmp_path / "set"), Export())


def test_no_rows_are_no_dataset(world: World, tmp_path: Path) -> None:
    empty = ShardOutput(KEPT.empty_table(), 0, KEPT)
    ref = sealed.seal(world.store, "kept", [empty], [world.refs["images"]], stage="filter")
    with pytest.raises(ConfigError, match="holds no rows: there is nothing to export"):
        export_dataset(world.store.open(ref), world.store, str(tmp_path / "set"), Export())


class Memory(Progress):
    """The most that Arrow holds when a batch is done."""

    most = 0

    def advance(self, count: int, note: str = "") -> None:
        self.most = max(self.most, pa.total_allocated_bytes())


@pytest.mark.parametrize(("batch_bytes", "flat"), [(1 << 20, True), (1 << 40, False)], ids=["batches", "control"])
def test_memory_does_not_grow_with_the_pictures(
    batch_bytes: int, flat: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of eight times the pictures; the control writes all of them at once."""
    monkeypatch.setattr(rows, "BATCH_BYTES", batch_bytes)
    monkeypatch.setattr(parquet, "BATCH_BYTES", batch_bytes)
    held = []
    for count in (100, 800):
        store = open_or_create(str(tmp_path / f"store-{count}"))
        pictures = [
            sealed.image(f"{n}", b"\x89PNG\r\n\x1a\n" + random.Random(n).randbytes(20_000)) for n in range(count)
        ]
        memory, before = Memory(), pa.total_allocated_bytes()
        ref = sealed.images(store, pictures)
        export_dataset(store.open(ref), store, str(tmp_path / f"set-{count}"), Export(), memory)
        held.append(memory.most - before)
    assert (held[1] < 2 * held[0]) == flat


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


@FORMATS
def test_a_prefix_on_s3_holds_the_same_files(format: str, world: World, exported: Exported, s3_uri: str) -> None:
    how: dict[str, Any] = {"format": format, **SMALL}
    export_dataset(world.version("kept"), world.store, f"{s3_uri}/set", Export(**how))
    found = S3Files(s3_uri, s3_endpoint(), cache_folder())
    there = {name: hashlib.sha256(found.read(f"set/{name}")).hexdigest() for name in found.walk("set")}
    assert there == contents(exported("kept", **how))
    assert list((cache_folder() / "exports").iterdir()) == []
    with pytest.raises(ConfigError, match=r"/set holds croissant.json already; nothing was written. Name a new prefix"):
        export_dataset(world.version("kept"), world.store, f"{s3_uri}/set", Export(**how))


def test_an_upload_that_was_cut_goes_on_and_has_no_croissant_before(
    world: World, exported: Exported, s3_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    created = []

    def cut_short(self: S3Files, key: str, *given: Any) -> Any:
        created.append(key)
        if len(created) == 3:
            raise Killed
        return create(self, key, *given)

    create = S3Files.create
    monkeypatch.setattr(S3Files, "create", cut_short)
    with pytest.raises(Killed):
        export_dataset(world.version("images"), world.store, f"{s3_uri}/set", Export(file_bytes=1))
    found = S3Files(s3_uri, s3_endpoint(), cache_folder())
    assert len(found.walk("set")) == 2
    monkeypatch.setattr(S3Files, "create", create)
    again = Progress()
    export_dataset(world.version("images"), world.store, f"{s3_uri}/set", Export(file_bytes=1), again)
    assert (again.found, again.rows) == (30, 0), "nothing was written again"
    there = {name: hashlib.sha256(found.read(f"set/{name}")).hexdigest() for name in found.walk("set")}
    assert there == contents(exported("images", **SMALL))


def test_files_of_others_on_s3_are_left_alone(world: World, s3_uri: str) -> None:
    S3Files(s3_uri, s3_endpoint(), cache_folder()).create("set/data/train-00000-of-00009.parquet", [b"theirs"])
    with pytest.raises(ConfigError, match=r"holds data/train-00000-of-00009.parquet already"):
        export_dataset(world.version("images"), world.store, f"{s3_uri}/set", Export())
    with pytest.raises(ConfigError, match="is a whole bucket; name a prefix in it: s3://test/NAME"):
        export_dataset(world.version("images"), world.store, "s3://test/", Export())


def test_a_store_on_s3_gives_the_same_folder(world: World, s3_uri: str, tmp_path: Path) -> None:
    pictures = [sealed.image(f"far {n}", encode_image(sealed.noise(n), "png")) for n in range(5)]
    for uri in (s3_uri, str(tmp_path / "near")):
        store = open_or_create(uri)
        ref = sealed.images(store, pictures, 2)
        export_dataset(store.open(ref), store, str(tmp_path / f"set-{uri.startswith('s3:')}"), Export())
    assert_equal_but_for_dates(tmp_path / "set-True", tmp_path / "set-False")


def assert_equal_but_for_dates(a: Path, b: Path) -> None:
    """Two versions made at different times tell of them."""
    assert contents(a / "data") == contents(b / "data")
    assert (a / "README.md").read_text() == (b / "README.md").read_text()
