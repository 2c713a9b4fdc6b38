"""What no reader would take is refused when it is planned or written, by the same limits."""

import pytest

from lightgen.errors import ConfigError, ShardMalformed, StoreError
from lightgen.storage import documents, tar
from lightgen.storage.shards import ShardOutput, pack
from lightgen.storage.store import Store, open_or_create
from lightgen.storage.tar import read_members
from lightgen.storage.verify import verify
from tests.worked_version import SCHEMA, build, plan_of, rows, with_all


@pytest.fixture
def store(tmp_path) -> Store:
    return open_or_create(str(tmp_path / "store"))


def packed(members: int, size: int = 1) -> bytes:
    return b"".join(pack([f"k{i}" for i in range(members)], [{"bin": bytes(size)}] * members, "t").chunks)


@pytest.mark.parametrize(("limit", "members", "size"), [("MAX_MEMBERS", 5, 1), ("MAX_MEMBER", 1, 5)])
def test_tars_have_one_limit_for_writers_and_readers(monkeypatch, limit, members, size) -> None:
    good = packed(members, size)
    monkeypatch.setattr(tar, limit, 5)
    assert len(list(read_members(memoryview(good), "t"))) == members
    assert packed(members, size) == good
    monkeypatch.setattr(tar, limit, 4)
    with pytest.raises(ShardMalformed, match="t: "):
        list(read_members(memoryview(good), "t"))
    with pytest.raises(ShardMalformed, match="t: "):
        packed(members, size)


def test_too_many_shards_are_refused_when_they_are_planned() -> None:
    most = documents.MAX_BYTES // documents.RECEIPT_BYTES
    with pytest.raises(ConfigError, match=r"shards: at most 32,76\d fit a manifest"):
        plan_of(most + 1)
    plan_of(most - 10)


def test_a_recipe_that_is_too_long_is_refused_when_it_is_planned(monkeypatch) -> None:
    monkeypatch.setattr(documents, "MAX_BYTES", 10_000)
    with pytest.raises(ConfigError, match="make it shorter"):
        plan_of(1, name="x" * 10_000)


def test_what_is_sealed_can_be_read_at_any_limit_and_else_the_first_shard_says_so(tmp_path, monkeypatch) -> None:
    """Receipts take about 1,450 bytes; four of them, the plan and the sums about 7,000."""
    monkeypatch.setattr(documents, "RECEIPT_BYTES", 700)
    outcomes = []
    for limit in range(3_000, 11_000, 500):
        store = open_or_create(str(tmp_path / str(limit)))
        monkeypatch.setattr(documents, "MAX_BYTES", limit)
        try:
            build(store, plan_of(4, kind="images"), with_all, max_reject_fraction=1)
        except (StoreError, ConfigError) as error:
            outcomes.append("first shard" if "do not fit a manifest" in str(error) else "plan")
            assert list(store.files.root.glob("v/*/*/done/*")) == []
        else:
            outcomes.append("sealed")
            assert store.open("images").rows == 16
            assert verify(store) == []
    assert list(dict.fromkeys(outcomes)) == ["plan", "first shard", "sealed"]


def test_a_document_that_no_reader_would_take_is_not_written(store, monkeypatch) -> None:
    plan = plan_of()
    monkeypatch.setattr(documents, "MAX_BYTES", 100)
    with pytest.raises(StoreError, match=r"plan\.json: \d+ bytes, more than the 100 of any document"):
        build(store, plan, rows)
    assert list(store.files.root.glob("v/*/*/*")) == []


def test_a_member_that_no_reader_would_take_seals_nothing(store) -> None:
    output = ShardOutput(rows(0, 1).table, 1, SCHEMA, blobs=[{"bin": bytes(tar.MAX_MEMBER + 1)}])
    with pytest.raises(ShardMalformed, match=r"images shard 0: member 'row-0-0.bin' takes 67,108,865 bytes"):
        build(store, plan_of(1, kind="images"), lambda shard: output)
    assert store.log("images") == []
