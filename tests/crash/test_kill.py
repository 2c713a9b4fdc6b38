"""SIGKILL of real processes at seeded moments: nothing breaks, nothing acknowledged is lost, resume gives the same."""

import random
import shutil
import signal

import pytest

from lightgen.storage.commit import manifest_of
from lightgen.storage.store import open_or_create
from lightgen.storage.verify import verify
from tests.crash.invariants import violations
from tests.crash.kills import mortal, operations_of
from tests.crash.seeds import first_seed
from tests.forks import Forked
from tests.worked_version import build, plan_of, with_all

SHARDS = 4
A_STORE = 30  # kills on one store: after each, all of it is checked


def plan_number(seed):
    return plan_of(SHARDS, seed, kind="images")


def work(root, seed):
    """What a worker process does: one version, whole."""
    build(open_or_create(str(root)), plan_number(seed), with_all, max_reject_fraction=1)


def manifest_first(root, seed):
    """The null control: a writer that seals before its shards are there."""
    store, elsewhere, plan = open_or_create(str(root)), open_or_create(f"{root}-elsewhere"), plan_number(seed)
    source = elsewhere.files.root / plan.folder
    paths = sorted((path for path in source.rglob("*") if path.is_file()), key=lambda path: path.parent != source)
    assert "manifest.json" in [path.name for path in paths[:2]]
    for path in paths:
        store.files.create(f"{plan.folder}/{path.relative_to(source)}", [path.read_bytes()])


def round_of(root, seed, moments, target=work):
    """Workers on one version, each killed at its moment or done before; how many were killed."""
    processes = [Forked(target=mortal, args=(moment, target, root, seed)) for moment in moments]
    [process.start() for process in processes]
    [process.join() for process in processes]
    ends = [process.exitcode for process in processes]
    assert set(ends) <= {0, -signal.SIGKILL}, "a worker failed by itself"
    return ends.count(-signal.SIGKILL)


def kill_loop(root, workers, kills, rng):
    """(versions begun, violations): rounds of workers on one version until it is sealed, then on the next."""
    done, seed, found, receipts = 0, 0, [], {}
    total = operations_of(work, f"{root}-counted", 0)
    while done < kills:
        done += round_of(root, seed, [rng.randrange(total) for _ in range(workers)])
        found += violations(root)
        found += [f"{path} was lost or changed" for path, data in receipts.items() if read(path) != data]
        receipts = {path: path.read_bytes() for path in root.glob("v/*/*/done/*.json")}
        seed += (root / plan_number(seed).folder / "manifest.json").exists()
    return seed + 1, found


def read(path):
    return path.read_bytes() if path.exists() else None


@pytest.mark.parametrize(
    ("workers", "kills"), [(1, 30), (3, 18), *(pytest.param(w, 500, marks=pytest.mark.long) for w in (1, 3))]
)
def test_kills_break_nothing(tmp_path, workers, kills):
    rng, quiet = random.Random(seed := first_seed()), open_or_create(str(tmp_path / "quiet"))
    for done in range(0, kills, A_STORE):
        root = tmp_path / str(done)
        begun, found = kill_loop(root, workers, min(A_STORE, kills - done), rng)
        assert found == [], f"LIGHTGEN_SEED={seed} repeats it"
        store = open_or_create(str(root))
        for number in range(begun):
            ref, other = (build(one, plan_number(number), with_all, max_reject_fraction=1) for one in (store, quiet))
            assert (ref.version, ref.content, ref.fingerprint) == (other.version, other.content, other.fingerprint)
        assert verify(store) == []
        shutil.rmtree(root)


def test_null_control_manifest_first_is_caught_at_every_moment(tmp_path):
    work(f"{tmp_path}/counted-elsewhere", 0)
    total = operations_of(manifest_first, f"{tmp_path}/counted", 0)
    sealed = 0
    for moment in range(0, total - 12, total // 8):
        root = tmp_path / str(moment)
        work(f"{root}-elsewhere", 0)
        assert round_of(root, 0, [moment], manifest_first) == 1
        if (root / plan_number(0).folder / "manifest.json").exists():
            sealed += 1
            assert violations(root), moment
    assert sealed >= 5


def test_two_committers_write_the_same_manifest(tmp_path):
    store, plan = open_or_create(str(tmp_path)), plan_number(0)
    build(store, plan, with_all, max_reject_fraction=1)
    manifest = store.open("images").manifest
    receipts = {receipt.shard: receipt for receipt in reversed(manifest.shards)}
    assert manifest_of(plan, receipts, manifest.fingerprint).canonical() == manifest.canonical()
