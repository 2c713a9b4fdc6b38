"""Any damage is found, and its file named."""

import json
import shutil

import pytest

from lightgen.errors import StoreCorrupt, StoreError
from lightgen.storage.local import LocalFiles
from lightgen.storage.store import open_or_create
from lightgen.storage.verify import verify
from tests.worked_version import build, plan_of, rows, with_all


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A store with two versions."""
    store = open_or_create(str(tmp_path_factory.mktemp("whole") / "store"))
    for seed in range(2):
        build(store, plan_of(2, seed, kind="images"), with_all, max_reject_fraction=1)
    assert verify(store) == []
    return store.files.root


@pytest.fixture
def damaged(whole, tmp_path):
    """A copy of it, to damage."""
    return shutil.copytree(whole, tmp_path / "store")


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def flip(path, place):
    data = bytearray(path.read_bytes())
    data[int(place * (len(data) - 1))] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("how", ["flip first", "flip middle", "flip last", "cut", "missing", "empty", "longer"])
def test_every_damage_of_every_file_is_found(damaged, how):
    backup = damaged.parent / "backup"
    for path in files(damaged):
        if path.name == "store.json" and how in ("flip middle", "missing"):
            continue  # another store id is still an id, and a lost mark is made again: no content depends on it
        shutil.copy2(path, backup)
        if how.startswith("flip"):
            flip(path, {"first": 0, "middle": 0.5, "last": 1}[how.split()[1]])
        elif how == "missing":
            path.unlink()
        else:
            data = path.read_bytes()
            path.write_bytes({"cut": data[:-1], "empty": b"", "longer": data + b"\0"}[how])
        if how == "missing" and path.name == "00000002.json":
            shutil.copy2(backup, path)
            continue  # the end of a log may be cut unseen; what it named is then only unpublished
        if how == "missing" and path.name == "manifest.json":
            assert any("manifest.json" in problem.file for problem in verify(open_or_create(str(damaged))))
        else:
            named = [problem for problem in _problems(damaged) if path.name in str(problem) or "refs/" in str(problem)]
            assert named, path
        shutil.copy2(backup, path)


def _problems(folder):
    try:
        return verify(open_or_create(str(folder)))
    except StoreError as error:
        return [f"{folder}/store.json: {error}"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 1}, "field format"),
        ({"surprise": 1}, "field surprise"),
        ({"bytes_total": -1}, "field bytes_total"),
        ({"bytes_total": 1}, "bytes_total is not the sum"),
        ({"rows": {"taken": 11, "out": 9, "rejected": 2}}, "not the sum of the shards"),
        ({"rows": {"taken": 8, "out": 8, "rejected": 0}}, "not the sum of the shards"),
        ({"version": "0" * 32}, "plan is of"),
        ({"shards": []}, "shards are not 0 to 1"),
        ({"path": "/etc/passwd"}, "path"),
        ({"path": "data/../../x"}, "path"),
        ({"path": "data/part-00000-of-00002.0123456789abcdef.tar"}, "does not carry its own digest"),
    ],
)
def test_manifest_that_lies_is_refused(damaged, change, message):
    store = open_or_create(str(damaged))
    path = damaged / store.open("images").folder / "manifest.json"
    value = json.loads(path.read_bytes())
    if "path" in change:
        value["shards"][0]["files"][0]["path"] = change["path"]
    else:
        value |= change
    path.write_text(json.dumps(value))
    with pytest.raises(StoreCorrupt, match=message):
        store.open("images@2")


@pytest.mark.parametrize("data", [b"", b"\0" * 100, b"{", b"[" * 200_000, b'{"a":1,"a":2}', b'{"a":NaN}', b"\xff"])
@pytest.mark.parametrize("name", ["plan.json", "done/00001.json"])
def test_half_written_documents_are_refused(tmp_path, name, data):
    store = open_or_create(str(tmp_path))
    path = tmp_path / "v" / "captions" / plan_of().version / name
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    with pytest.raises(StoreCorrupt, match=name):
        build(store, plan_of(), rows)
    assert store.log("captions") == []


def test_log_with_a_gap_or_a_changed_entry_is_refused(tmp_path):
    store = open_or_create(str(tmp_path))
    for seed in range(3):
        build(store, plan_of(seed=seed), rows)
    second = tmp_path / "refs" / "captions" / "00000002.json"
    whole = second.read_bytes()
    second.write_bytes(whole.replace(b'"at":"2', b'"at":"3'))
    with pytest.raises(StoreCorrupt, match=r"00000003\.json: prev_sha256"):
        store.open("captions@1")
    second.unlink()
    with pytest.raises(StoreCorrupt, match="entry 2 of the log of captions is missing"):
        store.open("captions")


def test_damaged_shard_is_not_read(damaged):
    version = open_or_create(str(damaged)).open("images")
    for path in version.paths("tar"):
        whole = (damaged / path).read_bytes()
        (damaged / path).write_bytes(whole.replace(b"png", b"PNG", 3))  # the name in the header, then the payload
    with pytest.raises(StoreCorrupt, match="sha256"):
        list(version.samples(0))
    with pytest.raises(StoreCorrupt, match=r"bytes of row-0-0\.png at"):
        version.member("row-0-0", "png")


def test_missing_shard_stops_a_cached_build(damaged):
    store = open_or_create(str(damaged))
    version = store.open("images@1")
    (damaged / version.paths("rejects")[0]).unlink()
    with pytest.raises(StoreCorrupt, match=r"rejects/part-.* got missing"):
        build(store, plan_of(2, kind="images"), with_all, max_reject_fraction=1)


@pytest.mark.parametrize("sealed", [True, False])
def test_each_folder_is_listed_as_often_for_many_shards_as_for_few(tmp_path, monkeypatch, sealed):
    listed = []
    monkeypatch.setattr(
        LocalFiles, "names", lambda self, folder, names=LocalFiles.names: listed.append(folder) or names(self, folder)
    )
    counts = []
    for n_shards in (2, 30):
        store = open_or_create(str(tmp_path / str(n_shards)))
        ref = build(store, plan_of(n_shards, kind="images"), with_all, max_reject_fraction=1)
        if not sealed:
            (store.files.root / "v" / "images" / ref.version / "manifest.json").unlink()
            shutil.rmtree(store.files.root / "refs")
        listed.clear()
        assert verify(store) == []
        counts.append(len(listed))
    assert counts[0] == counts[1]


def test_a_missing_file_of_an_unfinished_version_is_named(tmp_path):
    store = open_or_create(str(tmp_path))
    ref = build(store, plan_of(kind="images"), with_all, max_reject_fraction=1)
    victim = store.open(ref).paths("index")[1].removeprefix(f"{tmp_path}/")
    (tmp_path / "v" / "images" / ref.version / "manifest.json").unlink()
    shutil.rmtree(tmp_path / "refs")
    (tmp_path / victim).unlink()
    assert [(problem.file, problem.what[-7:]) for problem in verify(store)] == [(victim, "missing")]
