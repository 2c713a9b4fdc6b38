"""Features on disk give the batches of features in memory, bit for bit."""

import errno
import os
import pickle
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from lightgen.errors import ConfigError, SchemaMismatch, StoreCorrupt
from lightgen.storage.parquet import write_parquet
from lightgen.storage.plans import Stage
from lightgen.storage.shards import ShardOutput
from lightgen.storage.store import open_or_create
from lightgen.training.features_on_disk import open_feature_files, open_features
from lightgen.training.texts_on_disk import open_text_files, open_texts
from tests.lightgen.training.feature_files import SHAPE, TEXT_DIM, features_table, read_features, write_shards, written
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
@pytest.mark.parametrize("short", [False, True])
def test_batches_are_those_of_features_in_memory(tmp_path, dtype, spread, short):
    stored, *tables = write_shards(tmp_path, spread=spread, dtype=dtype, short=short)
    memory = read_features(*tables)
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
    stored, *tables = write_shards(tmp_path)
    memory = read_features(*tables)
    order = np.random.default_rng(1).permutation(20)
    into = stored.batch(order[:5], order[:5])
    for first in (5, 10, 15, 0):
        rows = order[first : first + 5]
        stored.read_into(rows, rows, into)
        assert_same(into, memory.batch(rows, rows))


@pytest.mark.parametrize("short", [False, True])
@pytest.mark.parametrize("code", [errno.EAGAIN, errno.EOPNOTSUPP, None])
@pytest.mark.parametrize("at", [0, 1, 4, 11])
def test_rows_that_are_not_in_memory_are_waited_for(tmp_path, monkeypatch, short, code, at):
    """Reading without waiting fails, or ends early (None), at the given read."""
    stored, *tables = write_shards(tmp_path, short=short)
    expected = read_features(*tables).batch(ROWS, ROWS)
    preadv, flags_given, asked = os.preadv, [], []

    def slow(descriptor, buffers, offset, flags):
        flags_given.append(flags)
        if len(flags_given) != at + 1:
            return preadv(descriptor, buffers, offset, flags)
        if code:
            raise OSError(code, "not now")
        return preadv(descriptor, [memoryview(buffers[1])[:3]], offset, 0)

    monkeypatch.setattr(os, "preadv", slow)
    monkeypatch.setattr(os, "posix_fadvise", lambda *given: asked.append(given))
    assert_same(stored.batch(ROWS, ROWS), expected)
    rows = len(ROWS) - at // 3
    assert flags_given == [os.RWF_NOWAIT] * (at + 1) + [0] * 3 * rows
    assert len(asked) == 3 * rows


def test_a_disk_that_fails_is_an_error(tmp_path, monkeypatch):
    stored, *_ = write_shards(tmp_path)

    def broken(*_):
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(os, "preadv", broken)
    with pytest.raises(OSError, match="broken"):
        stored.batch(ROWS, ROWS)


def test_one_spread_in_the_last_row_counts_and_minus_zero_does_not(tmp_path):
    made = [features_table(0, [1, 2, 0], spread=-0.0), features_table(3, [3, 1], spread=0.0)]
    texts = open_text_files(written(tmp_path, "texts", [words for _, words in made]))
    tables = [rows for rows, _ in made]
    raw = bytearray(b"".join(tables[1].column("latent_std").to_pylist()))
    for last, expected in ((0x80, False), (0x01, True)):
        raw[-1] = last
        half = len(raw) // 2
        column = tables[1].schema.get_field_index("latent_std")
        kind = tables[1].schema.field(column)
        values = pa.array([bytes(raw[:half]), bytes(raw[half:])], kind.type)
        tables[1] = tables[1].set_column(column, kind, values)
        assert open_feature_files(written(tmp_path, "rows", tables), texts).has_std is expected


def test_texts_that_are_all_empty(tmp_path):
    rows, words = features_table(0, [0, 0, 0])
    texts = open_text_files(written(tmp_path, "texts", [words]))
    stored = open_feature_files(written(tmp_path, "rows", [rows]), texts)
    batch = stored.batch(np.array([2, 0]), np.array([0, 0]))
    assert batch.text.shape == (2, 0, TEXT_DIM)


def test_many_images_of_one_prompt_share_its_text(tmp_path):
    rows, words = features_table(0, [2, 3, 1])
    prompts = [words["id"][place] for place in (2, 0, 0)]
    rows = rows.set_column(1, rows.schema.field(1), pa.array([one.as_py() for one in prompts]))
    texts = open_text_files(written(tmp_path, "texts", [words]))
    stored = open_feature_files(written(tmp_path, "rows", [rows]), texts)
    batch = stored.batch(np.arange(3), np.zeros(3, int))
    assert batch.keep.sum(1).tolist() == [1, 2, 2]
    assert torch.equal(batch.text[1], batch.text[2])
    assert stored.longest_text == 2, "of the texts in use: no batch is wider for a text that nobody reads"


def test_a_row_without_a_text_is_told_and_one_whose_text_was_refused_is_left_out(tmp_path, caplog):
    rows, words = features_table(0, [2, 3, 1])
    lost = words["id"][1].as_py()
    files = written(tmp_path, "texts", [words.take([0, 2])])
    paths = written(tmp_path, "rows", [rows])
    with pytest.raises(ConfigError, match=f"1 of 3 rows have no text, the first of prompt {lost}; give the TEXTS"):
        open_feature_files(paths, open_text_files(files))
    stored = open_feature_files(paths, open_text_files(files, refused=[lost]))
    assert "1 of 3 rows are left out" in caplog.text
    whole = read_features(rows, words).batch(np.array([0, 2]), np.zeros(2, int))
    assert_same(
        stored.batch(np.arange(2), np.zeros(2, int)), replace(whole, text=whole.text[:, :2], keep=whole.keep[:, :2])
    )
    with pytest.raises(StoreCorrupt, match="has two texts"):
        open_text_files(written(tmp_path, "texts", [words, words]))


def test_shards_must_be_of_one_form_and_whole(tmp_path):
    (rows, words), (_, narrow) = features_table(0, [1, 2]), features_table(2, [1, 2], dtype="float16")
    with pytest.raises(SchemaMismatch, match="as in the first shard"):
        open_text_files(written(tmp_path, "texts", [words, narrow]))
    texts = open_text_files(written(tmp_path, "texts", [words]))
    wrong = written(tmp_path, "wrong", [words.set_column(3, words.schema.field(3), pa.array([2, 1], pa.int32()))])
    with pytest.raises(StoreCorrupt, match="row 0 does not hold"):
        open_feature_files(written(tmp_path, "rows", [rows]), open_text_files(wrong)).batch(ROWS[:1], ROWS[:1])
    for table, opened in ((rows, lambda paths: open_feature_files(paths, texts)), (words, open_text_files)):
        bare = pa.table(table.columns, schema=pa.schema([field.remove_metadata() for field in table.schema]))
        (tmp_path / "bare").write_bytes(write_parquet(bare))
        with pytest.raises(SchemaMismatch, match="missing or unknown"):
            opened([tmp_path / "bare"])
        with pytest.raises(SchemaMismatch, match="empty"):
            opened([])


def sealed(store):
    """FEATURES of three shards, one of them without rows, and their TEXTS."""
    tokens = [[2, 0, 4, 1], [], [3, 1]]
    made = [features_table(10 * shard, tokens[shard]) for shard in range(3)]
    versions = []
    for place, kind in enumerate(("features", "texts")):
        plan = Stage(kind, kind, revision=1).plan(Settings(), 0, [], 3)
        shards = [ShardOutput(each[place], len(each[place]), each[place].schema) for each in made]
        versions.append(store.open(build(store, plan, shards.__getitem__)))
    return versions


def test_a_version_of_a_local_store(tmp_path):
    version, texts = sealed(open_or_create(str(tmp_path / "store")))
    memory, rows = read_features(version.table(), texts.table()), np.array([5, 0, 3, 4])
    for verify in (False, True):
        stored = open_features(version, open_texts(texts, verify), verify=verify)
        assert_same(stored.batch(rows, rows), memory.batch(rows, rows))
    words = open_texts(texts)
    for kind, opened in (("features", lambda: open_features(version, words)), ("texts", lambda: open_texts(texts))):
        path = next((tmp_path / "store").glob(f"v/{kind}/*/data/*"))
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(StoreCorrupt, match="expected"):
            opened()
        path.unlink()
        with pytest.raises(StoreCorrupt, match="missing"):
            opened()


def test_a_version_on_s3_is_downloaded_once(s3_uri, tmp_path):
    store = open_or_create(s3_uri, cache=tmp_path / "cache")
    version, texts = sealed(store)
    memory, rows = read_features(version.table(), texts.table()), np.array([5, 0, 3, 4])

    def opened(cache):
        there = open_or_create(s3_uri, cache=tmp_path / cache)
        return open_features(there.open("features"), open_texts(there.open("texts")))

    stored = opened("cache")
    assert_same(stored.batch(rows, rows), memory.batch(rows, rows))
    columns = [*(shard.mean for shard in stored.shards), *stored.texts.columns]
    written_at = [Path(column.path).stat().st_mtime_ns for column in columns]
    opened("cache")
    assert [Path(column.path).stat().st_mtime_ns for column in columns] == written_at
    elsewhere = opened("other")
    assert tmp_path / "other" in Path(elsewhere.shards[0].mean.path).parents
    assert_same(elsewhere.batch(rows, rows), memory.batch(rows, rows))
