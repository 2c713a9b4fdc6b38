"""Fingerprints and duplicate keys of versions of any size, in memory and in parts."""

import errno
import hashlib
import itertools
import random
import tempfile

import numpy as np
import pyarrow as pa
import pytest

from lightgen.errors import DuplicateKey, StoreFull
from lightgen.storage import merge
from lightgen.storage.digests import DIGESTS
from lightgen.storage.merge import checked_fingerprint
from lightgen.storage.shards import ShardOutput
from lightgen.storage.store import open_or_create
from tests.worked_version import SCHEMA, build, plan_of

TENSORS = pa.schema([pa.field("n", pa.int32(), nullable=False)])


class Sealed:
    """What the merge reads of a version: digests by shard."""

    def __init__(self, shards: list[list[tuple[str, bytes]]]) -> None:
        self.ref, self.n_shards, self.rows = "captions@0", len(shards), sum(map(len, shards))
        self.shards = [
            pa.table({"key": [k for k, _ in s], "digest": [d for _, d in s]}, schema=DIGESTS) for s in shards
        ]

    def digests(self, shard: int) -> pa.Table:
        return self.shards[shard]


def some_rows(count: int, seed: int = 0) -> list[tuple[str, bytes]]:
    """Keys with random digests, some of them special: zeros at both ends, equal ones, the largest."""
    rng = np.random.default_rng(seed)
    special = [bytes(32), b"\xff" * 32, bytes(31) + b"\1", b"a" * 31 + b"\0", b"a" * 31 + b"\0"]
    return [(f"k{i}", d) for i, d in enumerate([rng.bytes(32) for _ in range(count - len(special))] + special)]


@pytest.mark.parametrize("part_rows", [1 << 20, 700, 100, 1])
def test_the_fingerprint_is_the_digest_of_all_sorted_digests(monkeypatch, part_rows) -> None:
    rows = some_rows(3_000)
    random.Random(0).shuffle(rows)
    monkeypatch.setattr(merge, "PART_ROWS", part_rows)
    expected = hashlib.sha256(b"".join(sorted(digest for _, digest in rows))).hexdigest()
    for cuts in ([0, 3_000], [0, 10, 10, 1_500, 3_000]):
        shards = [rows[start:end] for start, end in itertools.pairwise(cuts)]
        assert checked_fingerprint(Sealed(shards)) == expected
    assert checked_fingerprint(Sealed([[]])) == hashlib.sha256().hexdigest()


@pytest.mark.parametrize("part_rows", [1 << 20, 100])
def test_a_key_in_two_shards_is_named(monkeypatch, part_rows) -> None:
    monkeypatch.setattr(merge, "PART_ROWS", part_rows)
    rows = some_rows(1_000)
    shards = [rows[:400], rows[400:700], [*rows[700:], ("k123", b"x" * 32)]]
    with pytest.raises(DuplicateKey, match="key 'k123' stands in shards 0, 2"):
        checked_fingerprint(Sealed(shards))


def test_all_keys_twice_is_found_too(monkeypatch) -> None:
    monkeypatch.setattr(merge, "SUSPECTS", 10)
    with pytest.raises(DuplicateKey, match="stands in shards 0, 1"):
        checked_fingerprint(Sealed([some_rows(1_000), some_rows(1_000, seed=1)]))


def test_equal_hashes_of_different_keys_are_no_mistake_and_hide_none(monkeypatch) -> None:
    """With a hash of one bit nearly everything collides, and the one key that is there twice is named all the same."""
    monkeypatch.setattr(merge, "xxh3_64_digest", lambda key: bytes([len(key) % 2]) * 8)
    monkeypatch.setattr(merge, "SUSPECTS", 1)
    rows = some_rows(200)
    assert checked_fingerprint(Sealed([rows[:100], rows[100:]]))
    with pytest.raises(DuplicateKey, match="key 'k7' stands in shards 0, 1"):
        checked_fingerprint(Sealed([rows[:100], [*rows[100:], rows[7]]]))


def test_equal_rows_without_an_id_are_no_mistake(tmp_path) -> None:
    store = open_or_create(str(tmp_path))
    equal = ShardOutput(pa.table({"n": [1, 1, 2]}, schema=TENSORS), 3, TENSORS)
    assert build(store, plan_of(2), lambda shard: equal).rows == 6


def test_parts_are_bounded_whatever_the_number_of_rows() -> None:
    for rows, parts in ((0, 1), (1 << 20, 1), ((1 << 20) + 1, 2), (10_000_000, 16), (1 << 27, 128), (1 << 40, 128)):
        with merge._Parts(rows, 32) as made:
            assert len(made._files) == parts


def test_no_room_for_sorting_is_said_and_seals_nothing(tmp_path, monkeypatch) -> None:
    class Full:
        def write(self, data: bytes) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        __enter__ = __exit__ = lambda self, *error: self

    store = open_or_create(str(tmp_path))
    monkeypatch.setattr(merge, "PART_ROWS", 1)
    monkeypatch.setattr(tempfile, "TemporaryFile", Full)
    table = pa.table({"id": ["a", "b"], "n": [1, 2], "x": [0.5, 0.5]}).cast(SCHEMA)
    with pytest.raises(StoreFull, match="set TMPDIR"):
        build(store, plan_of(1), lambda shard: ShardOutput(table, 2, SCHEMA))
    assert store.log("captions") == []
