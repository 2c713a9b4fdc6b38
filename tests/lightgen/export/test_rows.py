"""What is said of rows before they are read, and how they are cut."""

from itertools import pairwise

import pyarrow as pa
import pytest

from lightgen.export import rows
from lightgen.export.rows import Rows, cut
from tests.lightgen.export.conftest import SHARDS, Exported, World


@pytest.mark.parametrize("name", ["images", "kept", "pairs"])
def test_sizes_are_known_before_a_picture_is_read(name: str, world: World) -> None:
    """Within a fifth of the pictures' bytes: shards of KEPT and PAIRS name some of their images."""
    found = Rows(world.version(name), world.store)
    for shard in range(found.version.n_shards):
        batches = list(found.batches(shard))
        files = [one for batch in batches for pictures in batch.pictures.values() for one in pictures]
        actual = sum(len(one.data) for one in files)
        table = found.version.entry("table", shard).bytes
        headers = 3 * 1024 * len(files)  # of a tar of tiny pictures: two members a picture, each filled to blocks
        assert 0.8 * actual <= found.size(shard) - table <= 1.2 * (actual + headers)


def test_files_end_before_the_size_that_is_asked_for(world: World, exported: Exported) -> None:
    sizes = [Rows(world.version("images"), world.store).size(shard) for shard in range(SHARDS)]
    folder = exported("images", file_bytes=sizes[0] + sizes[1])
    assert len(list((folder / "data").iterdir())) == 2
    assert len(list((exported("images", to="one", file_bytes=sum(sizes)) / "data").iterdir())) == 1


def test_rows_are_cut_by_bytes_and_by_count_and_none_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    table = pa.table({"n": pa.array(range(100), pa.int64())})
    sizes = [[(n % 7) * 100 for n in range(100)]]
    monkeypatch.setattr(rows, "BATCH_BYTES", 1000)
    parts = list(cut(table, sizes))
    assert pa.concat_tables(parts).equals(table)
    held = [sum(sizes[0][n] + 8 for n in part["n"].to_pylist()) for part in parts]
    assert max(held) < 1000 + 608
    assert all(before + after >= 1000 for before, after in pairwise(held))
    monkeypatch.setattr(rows, "BATCH_ROWS", 9)
    assert [len(part) for part in cut(table, [[0] * 100])] == [9] * 11 + [1]
