"""SIGKILL of real processes at random moments: nothing breaks, nothing acknowledged is lost, resume gives the same."""

import multiprocessing
import os
import random
import signal
import time

import pytest
from lightgen.storage.build import build

from lightgen.storage.commit import manifest_of
from lightgen.storage.store import open_or_create
from lightgen.storage.verify import verify
from tests.crash.invariants import violations
from tests.worked_version import SCHEMA, plan_of, with_all

SHARDS = 4
FORK = multiprocessing.get_context("fork")


def work(root, seed):
    """What a worker process does: one version, whole."""
    build(open_or_create(root), plan_of(SHARDS, seed, kind="images"), with_all, SCHEMA, max_reject_fraction=1)


def manifest_first(root, seed):
    """The null control: a writer that seals before its shards are there."""
    store, elsewhere, plan = (
        open_or_create(root),
        open_or_create(f"{root}-elsewhere"),
        plan_of(SHARDS, seed, kind="images"),
    )
    build(elsewhere, plan, with_all, SCHEMA, max_reject_fraction=1)
    source = elsewhere.files.root / "v" / "images" / plan.version
    paths = sorted((path for path in source.rglob("*") if path.is_file()), key=lambda path: path.parent != source)
    assert "manifest.json" in [path.name for path in paths[:2]]
    for path in paths:
        store.files.create(f"v/images/{plan.version}/{path.relative_to(source)}", [path.read_bytes()])
        time.sleep(0.002)


def kill_loop(root, target, workers, kills, rng):
    """(kills done, versions finished, violations): rounds of workers on one version until it is sealed."""
    done, seed, found, receipts = 0, 0, [], {}
    whole_s = time_of_one(target, f"{root}-timing")
    while done < kills:
        processes = [FORK.Process(target=target, args=(str(root), seed)) for _ in range(workers)]
        [process.start() for process in processes]
        time.sleep(rng.uniform(0, 1.1 * whole_s * workers))
        for process in processes:
            if process.is_alive():
                os.kill(process.pid, signal.SIGKILL)
            process.join()
            done += process.exitcode == -signal.SIGKILL
            assert process.exitcode in (0, -signal.SIGKILL), "a worker failed by itself"
        found += violations(root)
        found += [f"{path} was lost or changed" for path, data in receipts.items() if read(path) != data]
        receipts = {path: path.read_bytes() for path in root.glob("v/*/*/done/*.json")}
        if list(root.glob(f"v/images/{plan_of(SHARDS, seed, kind='images').version}/manifest.json")):
            seed += 1
    return done, seed, found


def time_of_one(target, root):
    target(root, 0)
    began = time.monotonic()
    target(root, 1)
    return time.monotonic() - began


def read(path):
    return path.read_bytes() if path.exists() else None


@pytest.mark.parametrize(("workers", "kills"), [(1, 40), (3, 24)])
def test_kills_break_nothing(tmp_path, workers, kills):
    root, dice = tmp_path / "store", random.randrange(1 << 30)
    print(f"seed {dice}")
    done, finished, found = kill_loop(root, work, workers, kills, random.Random(dice))
    assert found == []
    assert done >= kills
    store = open_or_create(str(root))
    for seed in range(finished + 1):
        plan = plan_of(SHARDS, seed, kind="images")
        ref = build(store, plan, with_all, SCHEMA, max_reject_fraction=1)
        other = build(open_or_create(str(tmp_path / "quiet")), plan, with_all, SCHEMA, max_reject_fraction=1)
        assert (ref.version, ref.fingerprint) == (other.version, other.fingerprint)
    assert verify(store) == []


def test_null_control_manifest_first_is_caught(tmp_path):
    """Five kills may all miss the moment; eight rounds of them do not."""
    rounds = (kill_loop(tmp_path / str(n) / "store", manifest_first, 1, 5, random.Random(n))[2] for n in range(8))
    assert any("sealed without receipt" in violation for found in rounds for violation in found)


def test_two_committers_write_the_same_manifest(tmp_path):
    store, plan = open_or_create(str(tmp_path)), plan_of(SHARDS, kind="images")
    build(store, plan, with_all, SCHEMA, max_reject_fraction=1)
    manifest = store.open("images").manifest
    receipts = {receipt.shard: receipt for receipt in reversed(manifest.shards)}
    assert manifest_of(plan, receipts, manifest.fingerprint).canonical() == manifest.canonical()
