"""Garbage collection: only what nothing needs goes, in an order that a kill cannot make dangerous."""

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from lightgen.errors import RefNotFound, StoreCorrupt, StoreError
from lightgen.storage.collect import collect, find_garbage
from lightgen.storage.commit import commit
from lightgen.storage.inspect import list_versions
from lightgen.storage.local import LocalFiles
from lightgen.storage.receipts import read_receipts
from lightgen.storage.refs import append
from lightgen.storage.reuse import offer
from lightgen.storage.store import Store, open_or_create
from lightgen.storage.trace import trace
from lightgen.storage.verify import verify
from schemas.ref import ArtifactRef
from tests.worked_version import build, plan_of, rows

DAY = 86_400.0


def later(days: float = 30) -> float:
    return time.time() + days * DAY


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_or_create(str(tmp_path / "store"))


@pytest.fixture
def family(store: Store):
    """Two captions, prompts made from the first."""
    old = build(store, plan_of(), rows)
    child = build(store, plan_of(kind="prompts", parents=[old]), rows, parents=[old])
    new = build(store, plan_of(seed=1), lambda shard: rows(shard, 3))
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
            build(store, plan, make, parents=parents)
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
    collection = collect(store, garbage, now=later())
    listed = [one["key"] for key in collection.tombstones for one in json.loads(store.files.read(key))["deleted"]]
    assert listed == [one.key for one in collection.deleted]
    assert sorted(listed) == sorted(one.key for one in garbage)
    assert collection.spared == []
    assert store.versions("prompts") == []
    assert [line.version for line in list_versions(store)] == [new.version]
    assert verify(store) == []
    with pytest.raises(RefNotFound):
        store.open(old)
    assert build(store, plan_of(), rows) == old
    assert store.open(old).ref == old
    assert store.open("captions").ref == new, "it is retired still"
    assert [(line.version, line.retired) for line in list_versions(store)] == [
        (old.version, True),
        (new.version, False),
    ]
    assert verify(store) == []


def collected_and_made_again(store: Store, cut: int | None = None) -> ArtifactRef:
    """A version that went and came back; `cut` ends the collection after so many files."""
    ref = build(store, plan_of(), rows)
    store.retire(ref)
    collect(store, find_garbage(store, now=later())[:cut], now=later())
    assert build(store, plan_of(), rows) == ref
    assert verify(store) == []
    return ref


@pytest.mark.parametrize("cut", [None, 1], ids=["whole", "cut short after the manifest"])
def test_a_version_collected_then_made_again_then_lost_is_named(store: Store, cut: int | None) -> None:
    ref, other = collected_and_made_again(store, cut), build(store, plan_of(kind="prompts"), rows)
    shutil.rmtree(store.files.root / "v" / "captions" / ref.version)
    assert [problem.file for problem in verify(store)] == [f"v/captions/{ref.version}/manifest.json"]
    listed = [(line.version, line.rows, line.trouble) for line in list_versions(store)]
    assert listed == [(ref.version, None, "lost"), (other.version, 12, None)]
    assert trace(store, "row-0-0")[0].ref == other
    build(store, plan_of(), rows)
    assert verify(store) == []


def test_a_version_that_was_never_collected_and_is_lost_is_named(store: Store) -> None:
    ref = build(store, plan_of(), rows)
    manifest = store.files.root / "v" / "captions" / ref.version / "manifest.json"
    manifest.unlink()
    assert [problem.file for problem in verify(store)] == [f"v/captions/{ref.version}/manifest.json"]
    manifest.write_bytes(b"{")
    assert [line.trouble for line in list_versions(store)] == ["damaged"]


def test_a_version_put_back_after_the_collection_was_cut_short_is_missed_when_it_is_lost(store: Store) -> None:
    ref = build(store, plan_of(), rows)
    store.retire(ref)
    append(store.files, store.manifest("captions", ref.version), "collect")  # killed before the first file went
    assert verify(store) == []
    build(store, plan_of(), lambda shard: pytest.fail("all of it was there"))
    store.restore(ref)
    shutil.rmtree(store.files.root / "v" / "captions" / ref.version)
    assert verify(store)


def test_retired_stays_retired_until_it_is_restored(store: Store) -> None:
    first, second = build(store, plan_of(), rows), build(store, plan_of(seed=1), rows)
    store.retire(second)
    build(store, plan_of(seed=1), lambda shard: pytest.fail("it is sealed"))
    assert store.open("captions").ref == first
    store.restore(second)
    store.restore(second)
    assert store.open("captions").ref == second
    assert find_garbage(store, now=later()) == []
    assert [entry.op for entry in store.log("captions")] == ["publish", "publish", "retire", "restore"]


def test_a_run_of_a_retired_recipe_says_how_to_bring_it_back(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    ref = build(store, plan_of(), rows)
    build(store, plan_of(), rows)
    assert caplog.text == ""
    store.retire(ref)
    build(store, plan_of(), rows)
    assert f"lightgen retire captions@{ref.version[:12]} --undo" in caplog.text


def test_a_collected_version_lends_no_rows(store: Store, family) -> None:
    old, child, new = family
    for ref in (old, new):
        offer(store, plan_of(seed=int(ref == new)), "a" * 32)
    store.retire(old)
    store.retire(child)
    collect(store, find_garbage(store, now=later()), now=later())
    assert store.files.names(f"reuse/captions/{'a' * 32}") == [new.version]


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
        collect(store, garbage[:cut], now=later())
        assert verify(store) == []
    assert build(store, plan_of(), rows) == old
    assert verify(store) == []


def test_null_control_data_before_the_manifest_is_damage(store: Store, family) -> None:
    old, child, _ = family
    store.retire(old)
    store.retire(child)
    backwards = find_garbage(store, now=later())[::-1]
    collect(store, [one for one in backwards if "/data/" in one.key], now=later())
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


def test_a_version_that_somebody_works_on_is_protected_by_its_claims(store: Store) -> None:
    """An old unfinished version, gone on with: nothing in it is young but the claim."""
    plan = unfinished(store)
    claim = f"v/images/{plan.version}/claims/00009.1"
    store.files.create(claim, [b"{}"])
    os.utime(store.files.root / claim, (later(), later()))
    assert find_garbage(store, now=later()) == []
    os.utime(store.files.root / claim, (later(15), later(15)))
    assert claim in {one.key for one in find_garbage(store, now=later())}


def test_a_version_that_is_needed_again_since_it_was_listed_is_spared(store: Store, family) -> None:
    old, child, new = family
    for ref in (old, child, new):
        store.retire(ref)
    abandoned = unfinished(store, parents=[new])
    garbage = find_garbage(store, now=later())
    store.restore(child)
    os.utime(store.files.root / "v" / "images" / abandoned.version / "plan.json", (later(), later()))
    collection = collect(store, garbage, now=later())
    names = {("captions", old.version), ("prompts", child.version), ("captions", new.version)}
    assert set(collection.spared) == names | {("images", abandoned.version)}
    assert (collection.deleted, collection.tombstones) == ([], [])
    assert verify(store) == []


def test_what_a_version_begun_since_builds_upon_is_spared(store: Store, family) -> None:
    old, child, new = family
    for ref in (old, child, new):
        store.retire(ref)
    garbage = find_garbage(store, now=later())
    born = unfinished(store, parents=[child])
    os.utime(store.files.root / "v" / "images" / born.version / "plan.json", (later(), later()))
    assert set(collect(store, garbage, now=later()).spared) == {("captions", old.version), ("prompts", child.version)}
    assert store.versions("captions") == [old.version]


@pytest.mark.parametrize("how", ["tag", "claim", "child"])
def test_each_version_is_looked_at_again_just_before_it_goes(store: Store, monkeypatch, how: str) -> None:
    """While the first of two is deleted, the second is needed again."""
    made = [build(store, plan_of(seed=seed), rows) for seed in range(2)]
    first, second = sorted(made, key=lambda ref: ref.version)
    store.retire(first)
    store.retire(second)
    claim, begun = f"v/captions/{second.version}/claims/00000.1", list[str]()

    def begin() -> None:
        if how == "tag":
            store.tag(second, "good")
        elif how == "claim":
            store.files.create(claim, [b"{}"])
            os.utime(store.files.root / claim, (later(31), later(31)))
        else:
            born = unfinished(store, parents=[second])
            os.utime(store.files.root / born.folder / "plan.json", (later(31), later(31)))

    def delete(files: LocalFiles, key: str, delete=LocalFiles.delete) -> None:
        delete(files, key)
        if not begun and not store.files.names(f"v/captions/{first.version}/done"):
            begun.append(key)
            begin()

    monkeypatch.setattr(LocalFiles, "delete", delete)
    collection = collect(store, find_garbage(store, now=later()), now=later())
    assert (collection.spared, store.versions("captions")) == ([("captions", second.version)], [second.version])


def test_a_run_whose_shards_are_collected_under_its_hands_makes_them_again(store: Store) -> None:
    gone = []

    def make(shard: int):
        if not gone and len(list(store.files.root.glob("v/images/*/done/*"))) == 2:
            gone.extend(collect(store, find_garbage(store, now=later()), now=later()).deleted)
        return rows(shard)

    ref = build(store, plan_of(kind="images"), make)
    assert gone
    assert (ref.rows, verify(store)) == (12, [])


def test_receipts_that_are_collected_before_the_commit_are_named(store: Store) -> None:
    plan = plan_of(kind="images")
    build(store, plan, rows)
    receipts = read_receipts(store, plan)
    del receipts[1]
    with pytest.raises(StoreError, match=r"done/00001\.json was deleted while it was read"):
        commit(store, plan, receipts, 0)


def test_a_file_that_goes_between_its_name_and_its_size_is_no_error(store: Store, monkeypatch) -> None:
    store.files.create("a/b", [b"1"])
    monkeypatch.setattr(LocalFiles, "names", lambda self, folder: ["b", "gone"])
    assert store.files.sizes("a") == {"b": 1}
    with pytest.raises(StoreError, match="gone was deleted"):
        store.files.read_many(["a/b", "a/gone"])


def test_old_claims_and_drafts_of_a_sealed_version_go_and_its_provenance_stays(store: Store, family) -> None:
    base = f"v/captions/{family[0].version}"
    for path in ("claims/00001.1", "partial/00001/0.json", "provenance/0.json"):
        store.files.create(f"{base}/{path}", [b"{}"])
    assert find_garbage(store) == []
    found = {(one.key.removeprefix(f"{base}/"), one.why) for one in find_garbage(store, now=later())}
    assert found == {("claims/00001.1", "no receipt names it"), ("partial/00001/0.json", "no receipt names it")}


def test_a_tag_protects(store: Store, family) -> None:
    old, child, _ = family
    store.tag(old, "good")
    store.retire(old)
    store.retire(child)
    assert {one.key.split("/")[2] for one in find_garbage(store, now=later())} == {child.version}


def test_a_tag_that_was_taken_away_protects_no_more(store: Store, family) -> None:
    old, child, _ = family
    store.tag(old, "good")
    store.retire(old)
    store.retire(child)
    store.untag(old, "good")
    assert {one.key.split("/")[2] for one in find_garbage(store, now=later())} == {old.version, child.version}


def test_a_file_that_no_receipt_names_goes_alone(store: Store, family) -> None:
    old, _, _ = family
    stray = f"v/captions/{old.version}/data/part-00000-of-00003.{'0' * 16}.rows.parquet"
    store.files.create(stray, [b"what a second worker left"])
    (one,) = find_garbage(store, now=later())
    assert (one.key, one.why) == (stray, "no receipt names it")
    collect(store, [one], now=later())
    assert verify(store) == []


def test_a_damaged_log_stops_the_collection(store: Store, tmp_path: Path, family) -> None:
    entry = tmp_path / "store" / "refs" / "captions" / "00000001.json"
    entry.chmod(0o644)
    entry.write_bytes(entry.read_bytes().replace(b"publish", b"retired"))
    with pytest.raises(StoreCorrupt):
        find_garbage(store, now=later())


def test_on_s3(s3_store_uri: str) -> None:
    store = open_or_create(s3_store_uri)
    old = build(store, plan_of(), rows)
    new = build(store, plan_of(seed=1), lambda shard: rows(shard, 3))
    store.retire(old)
    assert find_garbage(store) == []
    collect(store, find_garbage(store, now=later()), now=later())
    # SeaweedFS goes on listing a folder that was emptied, so what is asked is what lies in it.
    assert store.files.sizes(f"v/captions/{old.version}") == {}
    with pytest.raises(RefNotFound):
        store.open(old)
    assert store.open("captions").ref == new
    assert find_garbage(store, now=later()) == []
    assert verify(store) == []
    assert build(store, plan_of(), rows) == old
