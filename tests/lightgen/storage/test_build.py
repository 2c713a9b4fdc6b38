"""Building, resuming and reading versions."""

import pyarrow as pa
import pytest

from lightgen.errors import DuplicateKey, RefNotFound, SchemaMismatch, TooManyRejects, UnsafePath
from lightgen.storage.inspect import list_versions
from lightgen.storage.shards import Reject, ShardOutput
from lightgen.storage.store import open_or_create
from tests.worked_version import SCHEMA, build, plan_of, rows, with_reject


def with_blobs(shard):
    output = rows(shard)
    blobs = [{"png": f"png {shard} {i}".encode() * 50, "mask.png": b""} for i in range(4)]
    return ShardOutput(output.table, rows_in=4, schema=SCHEMA, blobs=blobs, extras={"report.html": b"<p>hello</p>"})


def test_sealed_version_is_read_back(tmp_path):
    store = open_or_create(str(tmp_path / "store"))
    ref = build(store, plan_of(), with_reject, max_reject_fraction=0.5)
    version = store.open(ref)
    assert (version.rows, version.n_shards, version.reject_reasons) == (12, 3, {"too_long": 3})
    assert version.table().column("id").to_pylist() == [f"row-{s}-{i}" for s in range(3) for i in range(4)]
    assert version.table(1, ["n"]).column_names == ["n"]
    assert version.table(0).schema.field("n").nullable is False
    assert [len(detail) for detail in version.rejects(2).column("detail").to_pylist()] == [500]
    assert store.open("captions").ref == store.open("captions@1").ref == ref
    assert store.open(f"captions@{ref.version[:8]}").ref == ref


def test_sealed_version_is_never_computed_again(tmp_path):
    store = open_or_create(str(tmp_path))
    ref = build(store, plan_of(), rows)
    before = sorted(path for path in tmp_path.rglob("*"))
    assert build(store, plan_of(), lambda shard: pytest.fail("computed again")) == ref
    assert before == sorted(path for path in tmp_path.rglob("*"))


def test_finished_shards_are_skipped_after_a_failure(tmp_path):
    store, calls = open_or_create(str(tmp_path)), []

    def fails_on_the_third(shard):
        calls.append(shard)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return rows(shard)

    with pytest.raises(KeyboardInterrupt):
        build(store, plan_of(), fails_on_the_third)
    with pytest.raises(RefNotFound, match="no captions yet"):
        store.open("captions")
    build(store, plan_of(), lambda shard: calls.append(shard) or rows(shard))
    assert sorted(calls[:2] + calls[3:]) == [0, 1, 2]


def test_fingerprint_ignores_sharding_and_order(tmp_path):
    store = open_or_create(str(tmp_path))
    whole = pa.concat_tables([rows(shard).table for shard in range(3)])
    reverse = whole.take(list(range(11, -1, -1)))
    three = build(store, plan_of(), rows)
    one = build(store, plan_of(n_shards=1), lambda shard: ShardOutput(reverse, rows_in=12, schema=SCHEMA))
    changed = whole.set_column(1, SCHEMA.field("n"), pa.array([9, *whole.column("n").to_pylist()[1:]], pa.int32()))
    other = build(store, plan_of(n_shards=1, seed=1), lambda shard: ShardOutput(changed, rows_in=12, schema=SCHEMA))
    assert three.version != one.version
    assert three.fingerprint == one.fingerprint != other.fingerprint


def test_blobs_and_files(tmp_path):
    store = open_or_create(str(tmp_path))
    version = store.open(build(store, plan_of(kind="images"), with_blobs))
    samples = dict(version.samples(1))
    assert list(samples) == ["row-1-0", "row-1-1", "row-1-2", "row-1-3"]
    assert samples["row-1-2"]["png"] == b"png 1 2" * 50 == version.member("row-1-2", "png")
    assert version.member("row-1-2", "mask.png") == b""
    assert version.file("report.html").read_bytes() == b"<p>hello</p>"
    with pytest.raises(RefNotFound, match=r"it has report\.html"):
        version.file("model.safetensors")


def test_blobs_are_part_of_the_fingerprint(tmp_path):
    store = open_or_create(str(tmp_path))

    def changed(shard):
        blobs = [dict(blob) for blob in with_blobs(shard).blobs or []]
        blobs[0]["png"] += b"!"
        return ShardOutput(rows(shard).table, rows_in=4, schema=SCHEMA, blobs=blobs)

    first = build(store, plan_of(kind="images"), with_blobs)
    assert first.fingerprint != build(store, plan_of(kind="images", seed=1), changed).fingerprint


def test_too_many_rejects_publishes_nothing(tmp_path):
    store = open_or_create(str(tmp_path))
    with pytest.raises(TooManyRejects, match=r"3 of 15 rows.*\n +3 too_long, such as 'bad-0'"):
        build(store, plan_of(), with_reject)
    assert store.find_sealed(plan_of()) is None
    assert build(store, plan_of(), lambda shard: pytest.fail("again"), max_reject_fraction=0.2).rows == 12


def test_all_rows_rejected(tmp_path):
    store = open_or_create(str(tmp_path))
    reject = Reject("a", "empty", "", {})
    output = ShardOutput(SCHEMA.empty_table(), rows_in=1, schema=SCHEMA, rejects=[reject], blobs=[])
    version = store.open(build(store, plan_of(n_shards=1), lambda s: output, max_reject_fraction=1.0))
    assert (version.rows, version.table().num_rows, list(version.samples(0))) == (0, 0, [])


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pa.table({"id": ["a"], "n": [1]}), "column 'n': expected int32, got int64"),
        (pa.table({"id": ["a"]}), "column 'n': expected int32, got no such column"),
        (pa.table({"id": [None], "n": pa.array([1], pa.int32()), "x": pa.array([1.0], pa.float32())}), "column 'id'"),
        (rows(0, 1).table.append_column("y", pa.array([1])), "column 'y': expected no such column"),
    ],
)
def test_schema_is_enforced(tmp_path, table, message):
    store = open_or_create(str(tmp_path))
    with pytest.raises(SchemaMismatch, match=message):
        build(store, plan_of(n_shards=1), lambda shard: ShardOutput(table, rows_in=1, schema=SCHEMA))


def test_one_key_twice_is_refused_within_and_across_shards(tmp_path):
    store = open_or_create(str(tmp_path))
    twice = pa.concat_tables([rows(0).table, rows(0).table])
    with pytest.raises(DuplicateKey, match="'row-0-0' stands in row 0 and in row 4"):
        build(store, plan_of(n_shards=1), lambda shard: ShardOutput(twice, rows_in=8, schema=SCHEMA))
    with pytest.raises(DuplicateKey, match="stands in shards 0, 1, 2"):
        build(store, plan_of(), lambda shard: rows(0))
    assert store.log("captions") == []


@pytest.mark.parametrize("key", ["../../x", "x" * 10_000, "a/b", ".", "...", "", "ｒow", "a\n"])
def test_bad_keys_are_refused(tmp_path, key):
    store = open_or_create(str(tmp_path))
    table = pa.table({"id": [key], "n": [1], "x": [1.0]}, schema=SCHEMA)
    with pytest.raises(UnsafePath, match="bad key"):
        build(store, plan_of(n_shards=1), lambda shard: ShardOutput(table, rows_in=1, schema=SCHEMA))


def test_a_name_is_taken_away_and_may_come_back(tmp_path):
    store = open_or_create(str(tmp_path))
    ref, other = build(store, plan_of(), rows), build(store, plan_of(seed=1), rows)
    store.tag(ref, "good")
    with pytest.raises(RefNotFound, match="is not tagged 'good'"):
        store.untag(other, "good")
    store.untag(ref, "good")
    with pytest.raises(RefNotFound, match="is not tagged 'good'"):
        store.untag(ref, "good")
    with pytest.raises(RefNotFound):
        store.open("captions@tag:good")
    assert all(line.tags == () for line in list_versions(store))
    store.tag(ref, "good")
    assert store.open("captions@tag:good").ref == ref


def test_tags(tmp_path):
    store = open_or_create(str(tmp_path))
    first, second = build(store, plan_of(), rows), build(store, plan_of(seed=1), rows)
    store.tag(first, "good")
    store.tag(first, "good")
    assert store.open("captions@tag:good").ref == first
    store.tag("captions@latest", "good")
    assert store.open("captions@tag:good").ref == second
    assert [entry.op for entry in store.log("captions")] == ["publish", "publish", "tag", "tag"]
    with pytest.raises(RefNotFound, match=r"There is: captions@1 .*captions@tag:good"):
        store.open("captions@tag:bad")


def test_scratch_survives_until_the_version_is_sealed(tmp_path):
    store = open_or_create(str(tmp_path))
    (store.scratch(plan_of()) / "step.bin").write_bytes(b"1")
    assert (store.scratch(plan_of()) / "step.bin").exists()
    build(store, plan_of(), rows)
    assert not (store.scratch(plan_of()) / "step.bin").exists()
