"""A full, read-only or odd disk: an error that says so, and nothing published."""

import errno
import os
import resource

import pyarrow as pa
import pytest

from lightgen.errors import StoreFull, StoreReadOnly, StoreUnsupported, UnsafePath
from lightgen.storage import local
from lightgen.storage.shards import ShardOutput
from lightgen.storage.store import open_or_create
from tests.crash.invariants import violations
from tests.forks import FORK, Forked
from tests.worked_version import SCHEMA, build, plan_of, rows


class BrokenOs:
    """`os` of which one function fails from its n-th call on."""

    def __init__(self, name, number, after=0):
        self.name, self.number, self.after = name, number, after

    def __getattr__(self, name):
        return self._fail if name == self.name else getattr(os, name)

    def _fail(self, *arguments, **options):
        if self.after > 0:
            self.after -= 1
            return getattr(os, self.name)(*arguments, **options)
        raise OSError(self.number, os.strerror(self.number))


@pytest.mark.parametrize(
    ("function", "number", "error"),
    [
        ("fsync", errno.ENOSPC, StoreFull),
        ("fsync", errno.EDQUOT, StoreFull),
        ("link", errno.ENOSPC, StoreFull),
        ("open", errno.ENOSPC, StoreFull),
        ("open", errno.EROFS, StoreReadOnly),
        ("mkdir", errno.EACCES, StoreReadOnly),
        ("link", errno.EOPNOTSUPP, StoreUnsupported),
        ("fsync", errno.EIO, OSError),
    ],
)
@pytest.mark.parametrize("after", [0, 3])
def test_nothing_is_published_on_a_failing_disk(tmp_path, monkeypatch, function, number, error, after):
    store = open_or_create(str(tmp_path))
    monkeypatch.setattr(local, "os", BrokenOs(function, number, after))
    with pytest.raises(error):
        build(store, plan_of(), rows)
    monkeypatch.undo()
    assert store.log("captions") == []
    assert violations(tmp_path) == []
    assert list((tmp_path / "_tmp").glob("*")) == []
    assert build(store, plan_of(), rows).rows == 12


def limited(root, answer):
    """A process that may not write a file above 64 KiB, as on a disk that fills up."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 10, 64 << 10))
    table = pa.table({"id": [f"r{i}" for i in range(200)], "n": range(200), "x": [0.5] * 200}).cast(SCHEMA)
    blobs = [{"bin": bytes(1000)}] * 200
    try:
        build(open_or_create(root), plan_of(1, kind="images"), lambda s: ShardOutput(table, 200, SCHEMA, blobs=blobs))
        answer.put("published")
    except StoreFull as error:
        answer.put(str(error))


def test_a_real_limit_on_the_size_of_files(tmp_path):
    answer = FORK.Queue()
    process = Forked(target=limited, args=(str(tmp_path), answer))
    process.start()
    assert "no space left for the store" in answer.get(timeout=60)
    process.join()
    assert open_or_create(str(tmp_path)).log("images") == []


def test_symbolic_links_are_refused(tmp_path):
    real = tmp_path / "real"
    build(open_or_create(str(real)), plan_of(), rows)
    (tmp_path / "link").symlink_to(real)
    with pytest.raises(UnsafePath, match="symbolic link"):
        open_or_create(str(tmp_path / "link"))
    (real / "v" / "captions").rename(tmp_path / "elsewhere")
    (real / "v" / "captions").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UnsafePath, match="symbolic link"):
        open_or_create(str(real)).open("captions")


def test_a_store_may_be_moved(tmp_path):
    ref = build(open_or_create(str(tmp_path / "before")), plan_of(), rows)
    (tmp_path / "before").rename(tmp_path / "after")
    version = open_or_create(str(tmp_path / "after")).open("captions")
    assert version.ref.fingerprint == ref.fingerprint
    assert version.table().num_rows == 12
    assert not any(str(tmp_path).encode() in path.read_bytes() for path in (tmp_path / "after").rglob("*.json"))
