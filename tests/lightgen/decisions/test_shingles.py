"""Lists of hashes that lie in a file: the same lists, and no page of the file stays."""

from pathlib import Path

import numpy as np
import pytest

from lightgen.decisions import shingles
from lightgen.decisions.mapped import Pile
from lightgen.decisions.shingles import Shingles, ends_of

TEXTS = 1_000_000


def resident_mb() -> float:
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("RssFile"))


@pytest.fixture
def lists(tmp_path: Path) -> tuple[Shingles, Shingles]:
    """The same 48 MB of lists in memory and in a file."""
    rng = np.random.default_rng(0)
    offsets = ends_of(rng.integers(0, 25, TEXTS))
    hashes = rng.integers(2**32, size=offsets[-1], dtype=np.uint32)
    hashes.tofile(tmp_path / "lists")
    return Shingles(hashes, offsets), Shingles(np.memmap(tmp_path / "lists", np.uint32, "r"), offsets)


def test_lists_are_taken_from_a_file_as_from_memory(
    lists: tuple[Shingles, Shingles], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shingles, "FILE_BLOCK", 1000)
    held, filed = lists
    rng = np.random.default_rng(1)
    for texts in (rng.permutation(TEXTS)[:5500], rng.integers(TEXTS, size=2001), np.zeros(0, np.int64)):
        expected, found = held.take(texts), filed.take(texts)
        assert np.array_equal(found.hashes, expected.hashes)
        assert np.array_equal(found.offsets, expected.offsets)
        assert not isinstance(found.hashes, np.memmap)


def test_no_page_of_the_file_stays_in_memory(lists: tuple[Shingles, Shingles]) -> None:
    filed, everything = lists[1], np.random.default_rng(2).permutation(TEXTS)
    filed.take(everything[:10])  # compiled
    before = resident_mb()
    filed.take(everything)
    assert resident_mb() - before < 8
    int(filed.hashes.sum())  # the null control: read without care, all of it stays
    assert resident_mb() - before > 32


def test_a_pile_is_what_was_put_on_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    parts = [rng.integers(2**60, size=(rows, 2)).astype(np.uint64) for rows in (3, 0, 5)]
    pile = Pile(tmp_path, np.uint64, (2,))
    for part in parts:
        pile.add(part)
    assert np.array_equal(pile.read(), np.concatenate(parts))
    assert Pile(tmp_path, np.uint32).read().shape == (0,)
    assert list(tmp_path.iterdir()) == []
