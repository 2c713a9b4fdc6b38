"""Ranges: read one by one they give the whole corpus, in every format, and a changed file is noticed."""

import csv
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import s3fs
from hypothesis import given, settings
from hypothesis import strategies as st

from lightgen.corpora import parquet as parquet_module
from lightgen.corpora import ranges
from lightgen.corpora.base import FileCorpus
from lightgen.corpora.jsonl import JsonlCorpus
from lightgen.corpora.parquet import ParquetCorpus
from lightgen.corpora.ranges import Inventory, cut_values, values_digest
from lightgen.corpora.raw import RawCaption
from lightgen.corpora.scenes import ScenesCorpus
from lightgen.corpora.table import TableCorpus
from lightgen.corpora.text import TextCorpus
from lightgen.errors import InputChanged, InputCorrupt

TEXTS = [f"caption {number} of these" for number in range(23)]
SAME = {"source": "test"}


def write_csv(path: Path, texts: list[str], **options) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, **options)
        writer.writerows([["id", "caption"], *([number, text] for number, text in enumerate(texts))])


def write_parquet(path: Path, texts: list[str], rows: int = 7) -> None:
    pq.write_table(pa.table({"n": range(len(texts)), "caption": texts}), path, row_group_size=rows)


def corpus_of(kind: str, path: Path, texts: list[str]) -> FileCorpus:
    """The texts in a file of that kind."""
    match kind:
        case "text":
            path.write_text("".join(f"{text}\n" for text in texts))
            return TextCorpus(path=str(path), **SAME)
        case "jsonl":
            path.write_text("".join(json.dumps({"caption": text}) + "\n" for text in texts))
            return JsonlCorpus(path=str(path), **SAME)
        case "csv":
            write_csv(path, texts)
            return TableCorpus(path=str(path), separator=",", **SAME)
        case "tsv":
            path.write_text("".join(f"{number}\t{text}\n" for number, text in enumerate(texts)))
            return TableCorpus(path=str(path), header=["id", "caption"], **SAME)
        case _:
            write_parquet(path, texts)
            return ParquetCorpus(path=str(path), **SAME)


KINDS = ("text", "jsonl", "csv", "tsv", "parquet")


def read_ranges(corpus: FileCorpus | ScenesCorpus, inventory: Inventory, scratch: Path) -> list[RawCaption]:
    """All ranges one by one, the last first."""
    parts = [corpus.read_range(inventory, place, scratch) for place in reversed(list(inventory.places()))]
    return [row for part in reversed(parts) for row in part]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [1, 4, 23, 100])
def test_ranges_together_are_the_whole_corpus(tmp_path: Path, kind: str, rows: int) -> None:
    corpus = corpus_of(kind, tmp_path / "corpus", TEXTS)
    for limit in (None, 9, 8, 1000):
        limited = corpus.model_copy(update={"limit": limit})
        inventory = limited.cut(rows)
        whole = list(limited.read())
        assert len(whole) == min(limit or 23, 23)
        assert read_ranges(limited, inventory, tmp_path) == whole
        assert {one.rows for one in inventory.ranges[:-1]} <= {rows}
        assert inventory.rows == len(whole)


def test_scenes_are_cut_too(tmp_path: Path) -> None:
    corpus = ScenesCorpus(split="test", count=30)
    assert read_ranges(corpus, corpus.cut(7), tmp_path) == list(corpus.read())
    other = corpus.cut(7).ranges[0]._replace(sha256="0" * 64)
    with pytest.raises(InputChanged, match="same release"):
        read_ranges(corpus, Inventory(sha256="0" * 64, ranges=(other,)), tmp_path)


FIELDS = st.text(st.sampled_from("ab, \"\n\t'é"), max_size=6)
STRAY = st.sampled_from(
    ["", "\n", "\n\n", 'x"y"z,1\n', ',"open at the end', 'a,"b"c"\n', 'a,"open\n', "a,b,c\n", "a\n"]
)


@settings(max_examples=300)
@given(
    table=st.lists(st.lists(FIELDS, min_size=1, max_size=3), max_size=8),
    rows=st.integers(1, 4),
    mark=st.sampled_from([b"", b"\xef\xbb\xbf"]),
    end=st.sampled_from(["\n", "\r\n"]),
    odd=STRAY,
    at_front=st.booleans(),
)
def test_a_table_is_read_as_the_csv_module_reads_it_or_refused(tmp_path_factory, table, rows, mark, end, odd, at_front):
    """Records that csv takes in its strict mode are those of csv; ranges end between records, whatever is in them."""
    file = io.StringIO()
    csv.writer(file, lineterminator=end).writerows(table)
    text = odd + file.getvalue() if at_front else file.getvalue() + odd
    path = tmp_path_factory.getbasetemp() / "some.csv"
    path.write_bytes(mark + text.encode())
    corpus = TableCorpus(path=str(path), separator=",", column="b", header=["a", "b"], **SAME)
    found = read_ranges(corpus, corpus.cut(rows), path.parent)
    assert found == list(corpus.read())
    assert [row.row for row in found] == list(range(len(found)))
    try:
        # newline="" keeps the line ends inside of quotes, as the csv module asks for.
        with path.open(newline="\n", encoding="utf-8-sig") as lines:
            records = [record for record in csv.reader(lines, strict=True) if record]
    except csv.Error:
        assert any(row.refused for row in found)
        return
    assert [row.refused is None for row in found] == [len(record) == 2 for record in records]
    kept = [row.text for row in found if row.refused is None]
    assert kept == [record[1].encode() for record in records if len(record) == 2]


def test_blank_lines_and_a_byte_order_mark_shift_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    lines = [b'{"caption": "one"}', b"", b'{"caption": "two"}', b"  ", b'{"caption": "three"}']
    path.write_bytes(b"\xef\xbb\xbf" + b"\n".join(lines))
    corpus = JsonlCorpus(path=str(path), **SAME)
    found = read_ranges(corpus, corpus.cut(2), tmp_path)
    assert [(row.text, row.where) for row in found] == [
        (b"one", f"{path}:1"),
        (b"two", f"{path}:3"),
        (b"three", f"{path}:5"),
    ]
    assert found == list(corpus.read())


def test_a_range_ends_at_so_many_bytes_however_few_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "RANGE_BYTES", 100)
    corpus = corpus_of("text", tmp_path / "a.txt", TEXTS)
    inventory = corpus.cut(1000)
    assert max(one.size for one in inventory.ranges) < 100 + len(TEXTS[-1]) + 1
    assert read_ranges(corpus, inventory, tmp_path) == list(corpus.read())


def same_size(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"20", b"02"))


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("change", [same_size, cut_short, emptied])
def test_a_changed_file_is_noticed(tmp_path: Path, kind: str, change: Callable[[Path], None]) -> None:
    path = tmp_path / "corpus"
    corpus = corpus_of(kind, path, TEXTS)
    inventory = corpus.cut(4)
    assert len(read_ranges(corpus, inventory, tmp_path)) == 23
    change(path)
    with pytest.raises(InputChanged, match=r"corpus was changed while it was read: rows \d+ to \d+ .* run the same"):
        read_ranges(corpus, inventory, tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_other_rows_of_the_same_shape_are_noticed(tmp_path: Path, kind: str) -> None:
    corpus = corpus_of(kind, tmp_path / "corpus", TEXTS)
    inventory = corpus.cut(4)
    corpus_of(kind, tmp_path / "corpus", TEXTS[::-1])
    with pytest.raises(InputChanged):
        read_ranges(corpus, inventory, tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_vanished_is_no_changed_file(tmp_path: Path, kind: str) -> None:
    corpus = corpus_of(kind, tmp_path / "corpus", TEXTS)
    inventory = corpus.cut(4)
    (tmp_path / "corpus").unlink()
    with pytest.raises(InputCorrupt, match="Check the path"):
        read_ranges(corpus, inventory, tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_are_added_leave_the_full_ranges_before_alone(tmp_path: Path, kind: str) -> None:
    before = corpus_of(kind, tmp_path / "corpus", TEXTS).cut(5)
    after = corpus_of(kind, tmp_path / "corpus", [*TEXTS, *TEXTS]).cut(5)
    assert after.ranges[:4] == before.ranges[:4]
    assert after.sha256 != before.sha256
    assert [one.rows for one in after.ranges] == [5] * 9 + [1]


def test_nulls_and_layout_of_values_are_told_apart() -> None:
    texts = [b"a", None, b"", b"bc"]
    plain = pa.array(texts, pa.large_binary())
    in_pieces = pa.concat_arrays([plain[:1], plain[1:]])
    assert values_digest(plain) == values_digest(in_pieces) == values_digest(pa.concat_arrays([plain, plain])[4:])
    others = [[b"a", b"", None, b"bc"], [b"a", b"", b"", b"bc"], [b"ab", None, b"", b"c"], [b"a", None, b"", b"bd"]]
    digests = {values_digest(pa.array(other, pa.large_binary())) for other in others}
    assert len(digests | {values_digest(plain)}) == 5


def test_values_are_cut_wherever_the_arrays_end() -> None:
    values = [str(number).encode() for number in range(20)]
    whole = cut_values([pa.array(values, pa.large_binary())], 6, 17)
    pieces = [pa.array(values[at : at + 3], pa.large_binary()) for at in range(0, 20, 3)]
    assert cut_values(pieces, 6, 17) == whole
    assert [one.rows for one in whole] == [6, 6, 5]


def test_a_large_row_group_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a thousand shards decode a million rows each. The scratch file is whole, and made again when it is not."""
    texts = [f"caption {number}" for number in range(9000)]
    write_parquet(tmp_path / "a.parquet", texts, rows=5000)
    corpus = ParquetCorpus(path=str(tmp_path / "a.parquet"), **SAME)
    inventory = corpus.cut(100)
    spooled = []
    real = parquet_module.write_spool
    monkeypatch.setattr(parquet_module, "write_spool", lambda path, *rest: (spooled.append(path), real(path, *rest)))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    found = read_ranges(corpus, inventory, scratch)
    assert [row.text for row in found] == [text.encode() for text in texts]
    assert len(spooled) == 2
    for path in scratch.rglob("*.arrow"):
        data = path.read_bytes()
        path.write_bytes(data.replace(b"caption 4711", b"caption 1147"))
    with pytest.raises(InputChanged):
        read_ranges(corpus, inventory, scratch)
    assert len(read_ranges(corpus, inventory, scratch)) == 9000
    shutil.rmtree(scratch)


@pytest.mark.parametrize("kind", KINDS)
def test_s3_is_read_in_ranges_and_verified(s3_uri: str, s3_endpoint: str, tmp_path: Path, kind: str) -> None:
    local = corpus_of(kind, tmp_path / "corpus", TEXTS)
    files = s3fs.S3FileSystem(endpoint_url=s3_endpoint, skip_instance_cache=True)
    files.put_file(local.path, f"{s3_uri}/corpus")
    remote = local.model_copy(update={"path": f"{s3_uri}/corpus"})
    inventory = remote.cut(4)
    assert inventory == local.cut(4)
    at_home = [(row.text, row.row) for row in read_ranges(local, inventory, tmp_path)]
    assert [(row.text, row.row) for row in read_ranges(remote, inventory, tmp_path)] == at_home
    for change in (same_size, cut_short, emptied):
        corpus_of(kind, tmp_path / "corpus", TEXTS)
        change(tmp_path / "corpus")
        files.put_file(local.path, f"{s3_uri}/corpus")
        with pytest.raises(InputChanged):
            read_ranges(remote, inventory, tmp_path)


def test_a_pattern_on_s3_means_objects_and_no_folders(s3_uri: str, s3_endpoint: str) -> None:
    files = s3fs.S3FileSystem(endpoint_url=s3_endpoint, skip_instance_cache=True)
    files.pipe({f"{s3_uri}/captions.txt": b"a red bird\n", f"{s3_uri}/captions/a.txt": b"two blue cups\n"})
    for path, texts in (("cap*", [b"a red bird"]), ("captions", [b"two blue cups"]), ("*/*.txt", [b"two blue cups"])):
        assert [row.text for row in TextCorpus(path=f"{s3_uri}/{path}", source="test").read()] == texts
