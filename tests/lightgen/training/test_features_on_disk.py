"""Features on disk give the batches of features in memory, bit for bit."""

import pickle
from dataclasses import fields

import numpy as np
import pyarrow as pa
import pytest
import torch

from lightgen.errors import SchemaMismatch, StoreCorrupt
from lightgen.storage.parquet import write_parquet
from lightgen.storage.plans import Stage
from lightgen.storage.shards import ShardOutput
from lightgen.storage.store import open_or_create
from lightgen.training.features_on_disk import open_feature_files, open_features
from schemas.features import schema
from tests.lightgen.training.feature_files import SHAPE, TEXT_DIM, features_table, read_features, write_shards
from tests.worked_version import Settings, build

ROWS = np.array([0, 19, 6, 7, 10, 11, 6, 2])


def assert_same(found, expected):
    for part in fields(found):
        ours, theirs = getattr(found, part.name), getattr(expected, part.name)
        if theirs is None:
            assert ours is None
        else:
            assert ours.shape == theirs.shape
            assert torch.equal(ours.float() if part.name == "text" else ours, theirs)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("spread", [0.5, 0.0])
def test_batches_are_those_of_features_in_memory(tmp_path, dtype, spread):
    paths, table = write_shards(tmp_path, spread=spread, dtype=dtype)
    stored, memory = open_feature_files(paths), read_features(table)
    assert len(stored) == len(memory) == 20
    assert (stored.latent_shape, stored.text_dim, stored.longest_text) == (SHAPE, TEXT_DIM, memory.longest_text)
    assert stored.has_std == (spread > 0)
    epochs = np.arange(len(ROWS)) + 3
    found = stored.batch(ROWS, epochs)
    assert_same(found, memory.batch(ROWS, epochs))
    assert found.text.dtype == getattr(torch, dtype)
    assert torch.equal(found.keys(5), memory.batch(ROWS, epochs).keys(5))
    assert_same(pickle.loads(pickle.dumps(stored)).batch(ROWS, epochs), memory.batch(ROWS, epochs))


def test_a_batch_is_written_over_another(tmp_path):
    paths, table = write_shards(tmp_path)
    stored, memory = open_feature_files(paths), read_features(table)
    order = np.random.default_rng(1).permutation(20)
    into = stored.batch(order[:5], order[:5])
    for first in (5, 10, 15, 0):
        rows = order[first : first + 5]
        stored.read_into(rows, rows, into)
        assert_same(into, memory.batch(rows, rows))


def test_one_spread_in_the_last_row_counts_and_minus_zero_does_not(tmp_path):
    tables = [features_table(0, [1, 2, 0], spread=-0.0), features_table(3, [3, 1], spread=0.0)]
    raw = bytearray(b"".join(tables[1].column("latent_std").to_pylist()))
    for last, expected in ((0x80, False), (0x01, True)):
        raw[-1] = last
        half = len(raw) // 2
        column = tables[1].schema.get_field_index("latent_std")
        kind = tables[1].schema.field(column)
        values = pa.array([bytes(raw[:half]), bytes(raw[half:])], kind.type)
        tables[1] = tables[1].set_column(column, kind, values)
        for number, table in enumerate(tables):
            (tmp_path / f"{number}.parquet").write_bytes(write_parquet(table))
        assert open_feature_files(sorted(tmp_path.glob("*.parquet"))).has_std is expected


def test_texts_that_are_all_empty(tmp_path):
    (tmp_path / "a").write_bytes(write_parquet(features_table(0, [0, 0, 0])))
    batch = open_feature_files([tmp_path / "a"]).batch(np.array([2, 0]), np.array([0, 0]))
    assert batch.text.shape == (2, 0, TEXT_DIM)


def test_shards_must_be_of_one_form_and_whole(tmp_path):
    paths, _ = write_shards(tmp_path)
    paths[2].write_bytes(write_parquet(features_table(0, [1, 2], dtype="float16")))
    with pytest.raises(SchemaMismatch, match="as in the first shard"):
        open_feature_files(paths)
    table = features_table(0, [1, 2])
    wrong = table.set_column(6, table.schema.field(6), pa.array([2, 1], pa.int32()))
    paths[0].write_bytes(write_parquet(wrong))
    stored = open_feature_files(paths[:1])
    with pytest.raises(StoreCorrupt, match="row 0 does not hold"):
        stored.batch(np.array([0]), np.array([0]))
    bare = pa.table(table.columns, schema=pa.schema([field.remove_metadata() for field in table.schema]))
    paths[0].write_bytes(write_parquet(bare))
    with pytest.raises(SchemaMismatch, match="missing or unknown"):
        open_feature_files(paths[:1])
    with pytest.raises(SchemaMismatch, match="empty"):
        open_feature_files([])


def sealed(store):
    """A version of three shards, one of them without rows."""
    tokens = [[2, 0, 4, 1], [], [3, 1]]
    plan = Stage("encode", "features", revision=1).plan(Settings(), 0, [], 3)
    stored = schema(SHAPE, TEXT_DIM, "bfloat16")

    def make_shard(shard):
        return ShardOutput(features_table(10 * shard, tokens[shard]), rows_in=len(tokens[shard]), schema=stored)

    return store.open(build(store, plan, make_shard))


def test_a_version_of_a_local_store(tmp_path):
    version = sealed(open_or_create(str(tmp_path / "store")))
    memory, rows = read_features(version.table()), np.array([5, 0, 3, 4])
    for verify in (False, True):
        assert_same(open_features(version, verify=verify).batch(rows, rows), memory.batch(rows, rows))
    path = next((tmp_path / "store").glob("v/features/*/data/*"))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(StoreCorrupt, match="expected"):
        open_features(version)
    path.unlink()
    with pytest.raises(StoreCorrupt, match="missing"):
        open_features(version)


def test_a_version_on_s3_is_downloaded_once(s3_uri, tmp_path):
    store = open_or_create(s3_uri, cache=tmp_path / "cache")
    version = sealed(store)
    memory, rows = read_features(version.table()), np.array([5, 0, 3, 4])
    stored = open_features(version)
    assert_same(stored.batch(rows, rows), memory.batch(rows, rows))
    written = [shard.mean.path.stat().st_mtime_ns for shard in stored.shards]
    again = open_features(open_or_create(s3_uri, cache=tmp_path / "cache").open("features"))
    assert [shard.mean.path.stat().st_mtime_ns for shard in again.shards] == written
    elsewhere = open_features(open_or_create(s3_uri, cache=tmp_path / "other").open("features"))
    assert tmp_path / "other" in elsewhere.shards[0].mean.path.parents
    assert_same(elsewhere.batch(rows, rows), memory.batch(rows, rows))
