"""Garbage collection: only what nothing needs goes, in an order that a kill cannot make dangerous."""

import json
import os
import time
from pathlib import Path

import pytest
from lightgen.storage.build import build

from lightgen.errors import RefNotFound, StoreCorrupt
from lightgen.storage.collect import collect, find_garbage
from lightgen.storage.inspect import list_versions
from lightgen.storage.store import Store, open_or_create
from lightgen.storage.verify import verify
from tests.worked_version import SCHEMA, plan_of, rows

DAY = 86_400.0


def later(days: float = 30) -> float:
    return time.time() + days * DAY


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_or_create(str(tmp_path / "store"))


@pytest.fixture
def family(store: Store):
    """Two captions, prompts made from the first."""
    old = build(store, plan_of(), rows, SCHEMA)
    child = build(store, plan_of(kind="prompts", parents=[old]), rows, SCHEMA)
    new = build(store, plan_of(seed=1), rows, SCHEMA)
    return old, child, new


def unfinished(store: Store, parents=()):
    """A version whose second shard was never made."""

    def make(shard):
        if shard == 1:
            raise KeyboardInterrupt
        return rows(shard)

    plan = plan_of(kind="images", n_shards=2, parents=parents)
    for _ in range(8):  # shards come in a random order
        with pytest.raises(KeyboardInterrupt):
            build(store, plan, make, SCHEMA)
    return plan


def test_what_is_published_or_its_ancestor_stays(store: Store, family) -> None:
    old, _, _ = family
    store.retire(old)
    assert find_garbage(store, now=later()) == []  # the prompts were made from it


def test_a_retired_version_goes_when_its_children_do_and_can_be_made_again(store: Store, family) -> None:
    old, child, new = family
    store.retire(old)
    store.retire(child)
    garbage = find_garbage(store, now=later())
    assert {one.why for one in garbage} == {"retired"}
    assert {one.key.split("/")[2] for one in garbage} == {old.version, child.version}
    tombstone = collect(store, garbage)
    assert tombstone
    listed = json.loads(store.files.read(tombstone))["deleted"]
    assert [one["key"] for one in listed] == [one.key for one in garbage]
    assert store.versions("prompts") == []
    assert [line.version for line in list_versions(store)] == [new.version]
    assert verify(store) == []
    with pytest.raises(RefNotFound):
        store.open(old)
    assert build(store, plan_of(), rows, SCHEMA) == old
    assert store.open("captions").ref == old
    assert verify(store) == []


def test_the_manifest_goes_first_and_the_plan_last(store: Store, family) -> None:
    old, child, _ = family
    store.retire(old)
    store.retire(child)
    mine = [one.key for one in find_garbage(store, now=later()) if old.version in one.key]
    assert mine[0].endswith("/manifest.json")
    assert mine[-1].endswith("/plan.json")
    kinds = [key.split("/")[3] for key in mine[1:-1]]
    assert kinds[: kinds.index("data")] == ["done"] * 3


def test_a_collection_cut_short_leaves_an_unfinished_version_that_is_built_again(store: Store, family) -> None:
    old, child, _ = family
    store.retire(old)
    store.retire(child)
    garbage = find_garbage(store, now=later())
    for cut in range(1, len(garbage), 4):
        collect(store, garbage[:cut])
        assert verify(store) == []
    assert build(store, plan_of(), rows, SCHEMA) == old
    assert verify(store) == []


def test_null_control_data_before_the_manifest_is_damage(store: Store, family) -> None:
    old, child, _ = family
    store.retire(old)
    store.retire(child)
    backwards = find_garbage(store, now=later())[::-1]
    collect(store, [one for one in backwards if "/data/" in one.key])
    assert verify(store)


def test_what_is_young_stays_and_so_does_what_it_was_made_from(store: Store, family) -> None:
    old, child, _ = family
    store.retire(old)
    store.retire(child)
    plan = unfinished(store, parents=[child])
    assert find_garbage(store) == []
    garbage = find_garbage(store, now=later())
    assert {one.why for one in garbage if plan.version in one.key} == {"never finished"}
    assert {one.key.split("/")[2] for one in garbage} == {old.version, child.version, plan.version}


def test_a_young_unfinished_version_protects_its_retired_parents(store: Store, tmp_path: Path, family) -> None:
    old, child, _ = family
    store.retire(old)
    store.retire(child)
    aged = time.time() - 30 * DAY
    for path in (tmp_path / "store" / "v").rglob("*"):
        if path.is_file():
            os.utime(path, (aged, aged))
    assert {one.why for one in find_garbage(store)} == {"retired"}
    unfinished(store, parents=[child])
    assert find_garbage(store) == []


def test_a_tag_protects(store: Store, family) -> None:
    old, child, _ = family
    store.tag(old, "good")
    store.retire(old)
    store.retire(child)
    assert {one.key.split("/")[2] for one in find_garbage(store, now=later())} == {child.version}


def test_a_file_that_no_receipt_names_goes_alone(store: Store, family) -> None:
    old, _, _ = family
    stray = f"v/captions/{old.version}/data/part-00000-of-00003.{'0' * 16}.rows.parquet"
    store.files.create(stray, [b"what a second worker left"])
    (one,) = find_garbage(store, now=later())
    assert (one.key, one.why) == (stray, "no receipt names it")
    collect(store, [one])
    assert verify(store) == []


def test_a_damaged_log_stops_the_collection(store: Store, tmp_path: Path, family) -> None:
    entry = tmp_path / "store" / "refs" / "captions" / "00000001.json"
    entry.chmod(0o644)
    entry.write_bytes(entry.read_bytes().replace(b"publish", b"retired"))
    with pytest.raises(StoreCorrupt):
        find_garbage(store, now=later())


def test_on_s3(s3_store_uri: str) -> None:
    store = open_or_create(s3_store_uri)
    old = build(store, plan_of(), rows, SCHEMA)
    new = build(store, plan_of(seed=1), rows, SCHEMA)
    store.retire(old)
    assert find_garbage(store) == []
    collect(store, find_garbage(store, now=later()))
    # SeaweedFS goes on listing a folder that was emptied, so what is asked is what lies in it.
    assert store.files.sizes(f"v/captions/{old.version}") == {}
    with pytest.raises(RefNotFound):
        store.open(old)
    assert store.open("captions").ref == new
    assert find_garbage(store, now=later()) == []
    assert verify(store) == []
    assert build(store, plan_of(), rows, SCHEMA) == old
