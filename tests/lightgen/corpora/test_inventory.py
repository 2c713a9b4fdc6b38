"""Inventories: taken once of a file that stays, again of one that does not, and never of one that is being written."""

import sys
from pathlib import Path

import pytest
import s3fs

from lightgen.corpora import places
from lightgen.corpora.base import ordinals
from lightgen.corpora.inventory import take_inventory
from lightgen.corpora.ranges import Inventory
from lightgen.corpora.table import TableCorpus
from lightgen.corpora.text import TextCorpus
from lightgen.errors import InputChanged, InputCorrupt
from lightgen.storage import file_digests

OPENED: list[str] = []
sys.addaudithook(lambda event, given: OPENED.append(str(given[0])) if event == "open" else None)


@pytest.fixture(autouse=True)
def all_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of this test count as settled: it does not wait for seconds until their digests are remembered."""
    monkeypatch.setattr(file_digests, "SETTLED_S", -1.0)


def opens(path: Path) -> int:
    """How often this process has opened the file since it was asked last."""
    count = OPENED.count(str(path))
    OPENED.clear()
    return count


def large(path: Path, last: str = "the end") -> TextCorpus:
    """A corpus of more bytes than are read again for a digest."""
    path.write_text("a caption of some length\n" * 50_000 + f"{last}\n")
    return TextCorpus(path=str(path), source="test")


def test_an_unchanged_corpus_is_not_read_again(tmp_path: Path) -> None:
    path = tmp_path / "large.txt"
    corpus = large(path)
    opens(path)
    first = take_inventory(corpus, 1000)
    assert opens(path) == 2
    assert take_inventory(corpus, 1000) == first
    assert take_inventory(corpus.model_copy(update={"source": "other", "licence": "CC0-1.0"}), 1000) == first
    assert opens(path) == 0
    assert take_inventory(corpus, 900) != first
    assert opens(path) == 1
    moved = path.rename(tmp_path / "moved.txt")
    assert take_inventory(corpus.model_copy(update={"path": str(moved)}), 1000) == first


def test_settings_that_decide_where_rows_end_are_not_mixed_up(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('caption\n"one, and\ntwo"\n\'three, and\n')
    comma = TableCorpus(path=str(path), separator=",", source="test")
    assert take_inventory(comma, 1).rows == 2
    tab = comma.model_copy(update={"separator": "\t", "quoting": "none"})
    assert take_inventory(tab, 1).rows == 3
    assert take_inventory(comma.model_copy(update={"limit": 1}), 1).rows == 1
    assert take_inventory(comma, 1).rows == 2


def test_a_changed_corpus_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "large.txt"
    corpus = large(path)
    first = take_inventory(corpus, 1000)
    assert take_inventory(large(path, "the eve"), 1000) != first
    assert take_inventory(large(path), 1000) == first


def test_a_damaged_memory_is_no_harm(tmp_path: Path) -> None:
    corpus = large(tmp_path / "large.txt")
    first = take_inventory(corpus, 1000)
    for path in (tmp_path / "cache" / "inventories").iterdir():
        for data in (b"", path.read_bytes()[:-40], b'{"sha256": 1}'):
            path.write_bytes(data)
            assert take_inventory(corpus, 1000) == first


def test_a_corpus_that_is_being_written_has_no_inventory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else its ranges would be remembered under the digest of something else."""
    corpus = large(tmp_path / "large.txt")
    cut = TextCorpus.cut

    def slow(self: TextCorpus, rows: int) -> Inventory:
        found = cut(self, rows)
        large(tmp_path / "large.txt", "the eve")
        return found

    monkeypatch.setattr(TextCorpus, "cut", slow)
    with pytest.raises(InputChanged, match=r"large\.txt was changed while it was read for the first time"):
        take_inventory(corpus, 1000)
    monkeypatch.setattr(TextCorpus, "cut", cut)
    assert take_inventory(corpus, 1000) == corpus.cut(1000)


def test_a_missing_corpus_says_what_to_do(tmp_path: Path) -> None:
    for path in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(InputCorrupt, match="Check the path"):
            take_inventory(TextCorpus(path=str(path), source="test"), 10)


def test_an_unchanged_object_of_s3_is_not_read_again(
    s3_uri: str, s3_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = s3fs.S3FileSystem(endpoint_url=s3_endpoint, skip_instance_cache=True)
    files.put_file(large(tmp_path / "a.txt").path, f"{s3_uri}/a.txt")
    corpus = TextCorpus(path=f"{s3_uri}/a.txt", source="test")
    first = take_inventory(corpus, 1000)
    assert first == take_inventory(large(tmp_path / "a.txt"), 1000)
    with monkeypatch.context() as patch:
        patch.setattr(places, "whole", lambda path: pytest.fail("read again"))
        assert take_inventory(corpus, 1000) == first
    files.put_file(large(tmp_path / "a.txt", "the eve").path, f"{s3_uri}/a.txt")
    assert take_inventory(corpus, 1000) == take_inventory(large(tmp_path / "a.txt", "the eve"), 1000) != first


def test_files_of_one_source_are_told_apart_by_their_order() -> None:
    corpora = [TextCorpus(path=name, source=source) for name, source in (("a", "x"), ("b", "y"), ("c", "x"))]
    assert [(corpus.path, ordinal) for corpus, ordinal in ordinals(corpora)] == [("a", 0), ("b", 0), ("c", 1)]
    assert [ordinal for _, ordinal in ordinals([*corpora, corpora[0]])][:3] == [0, 0, 1]
