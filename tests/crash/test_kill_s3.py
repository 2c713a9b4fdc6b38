"""SIGKILL of workers on a real S3 server behind a faulty network: nothing breaks, and the end is the same."""

import multiprocessing
import os
import random
import shutil
import signal

import pytest

from lightgen.storage.s3 import S3Files, _FileSystem
from lightgen.storage.store import open_or_create
from lightgen.storage.verify import verify
from tests.crash.invariants import violations
from tests.crash.seeds import first_seed
from tests.faults.proxy import FaultyProxy
from tests.worked_version import build, plan_of, with_all

SHARDS = 2
WORKERS = 2
LATEST = 90  # calls of a worker that makes a version alone
FRESH = multiprocessing.get_context("forkserver")  # a fork would take the event loop of s3fs with it
AWS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION")


def plan_number(seed):
    return plan_of(SHARDS, seed, kind="images")


def mortal(uri, cache, environment, seed, moment):
    """A worker that dies at its `moment`-th call of the server: before it, or when the answer has come."""
    os.environ.update(environment)
    calls, call_s3 = [0], _FileSystem._call_s3

    async def counted(self, method, *arguments, **options):
        calls[0] += 1
        if calls[0] == moment and moment % 2:
            os.kill(os.getpid(), signal.SIGKILL)
        answer = await call_s3(self, method, *arguments, **options)
        if calls[0] == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    _FileSystem._call_s3 = counted
    build(open_or_create(uri, cache=cache), plan_number(seed), with_all, max_reject_fraction=1)


def mirror(files, folder):
    """What the server holds, as files."""
    shutil.rmtree(folder, ignore_errors=True)
    keys = [f"{part}/{path}" for part in ("v", "refs") for path in files.walk(part)]
    for key, data in zip(keys, files.read_many(keys), strict=True):
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).write_bytes(data)
    return folder


@pytest.mark.parametrize(
    ("series", "kills"), [(0, 4), *(pytest.param(series, 40, marks=pytest.mark.long) for series in range(1, 6))]
)
def test_kills_under_faults_break_nothing(s3_uri, s3_endpoint, tmp_path, series, kills):
    """The long form kills in five stores: what a round looks at grows with what the store holds."""
    seed = first_seed() + series
    rng, direct = random.Random(seed), S3Files(s3_uri, s3_endpoint, tmp_path / "direct")
    killed, number, receipts, found = 0, 0, {}, []
    with FaultyProxy(s3_endpoint, seed, rate=0.05) as proxy:
        environment = {"AWS_ENDPOINT_URL_S3": proxy.endpoint, **{name: os.environ[name] for name in AWS}}
        while killed < kills:
            moments = [rng.randrange(1, LATEST) for _ in range(WORKERS)]
            ends = round_of((s3_uri, tmp_path / "cache", environment, number), moments)
            assert set(ends) <= {0, -signal.SIGKILL}, f"LIGHTGEN_SEED={seed}: a worker failed by itself"
            killed += ends.count(-signal.SIGKILL)
            held = mirror(direct, tmp_path / "mirror")
            found += violations(held)
            found += [f"{path} was lost or changed" for path, data in receipts.items() if read(held / path) != data]
            receipts = {path.relative_to(held): path.read_bytes() for path in held.glob("v/*/*/done/*.json")}
            number += (held / plan_number(number).folder / "manifest.json").exists()
    assert found == [], f"LIGHTGEN_SEED={seed} repeats it"
    assert proxy.injected.total() > 0
    store, quiet = open_or_create(s3_uri, cache=tmp_path / "last"), open_or_create(str(tmp_path / "quiet"))
    for one in range(number + 1):
        ref, other = (build(on, plan_number(one), with_all, max_reject_fraction=1) for on in (store, quiet))
        assert (ref.version, ref.content, ref.fingerprint) == (other.version, other.content, other.fingerprint)
    assert verify(store) == []


def round_of(place, moments):
    processes = [FRESH.Process(target=mortal, args=(*place, moment)) for moment in moments]
    [process.start() for process in processes]
    [process.join() for process in processes]
    return [process.exitcode for process in processes]


def read(path):
    return path.read_bytes() if path.exists() else None
