"""File corpora: what they read, and what each bad input of the design's table gives."""

import json
from pathlib import Path

import aiohttp
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import s3fs

from lightgen.corpora import parquet_limits, places
from lightgen.corpora.jsonl import JsonlCorpus
from lightgen.corpora.lines import MAX_RECORD
from lightgen.corpora.parquet import ParquetCorpus
from lightgen.corpora.table import TableCorpus
from lightgen.corpora.text import TextCorpus
from lightgen.errors import InputCorrupt, StoreAccess
from lightgen.settings import cache_folder

TEXTS = ["a red bird", "two   cats", "ein Käfer"]


def parquet(path: Path, **options) -> str:
    pq.write_table(pa.table({"url": ["x"] * 3, "caption": TEXTS}), path, **options)
    return str(path)


def test_every_format_gives_the_same_captions(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"caption": text}) for text in TEXTS), encoding="utf-8-sig")
    (tmp_path / "a.tsv").write_text("id\tcaption\n" + "".join(f"1\t{text}\n" for text in TEXTS))
    (tmp_path / "a.csv").write_text("caption,id\r\n" + "".join(f'"{text}",1\r\n' for text in TEXTS))
    (tmp_path / "bare.tsv").write_text("".join(f"1\t{text}\n" for text in TEXTS))
    (tmp_path / "a.txt").write_text("\n".join(TEXTS))
    common = {"source": "test", "licence": "CC0-1.0"}
    corpora = [
        ParquetCorpus(path=parquet(tmp_path / "a.parquet"), **common),
        JsonlCorpus(path=str(tmp_path / "a.jsonl"), **common),
        TableCorpus(path=str(tmp_path / "a.tsv"), **common),
        TableCorpus(path=str(tmp_path / "a.csv"), separator=",", **common),
        TableCorpus(path=str(tmp_path / "bare.tsv"), header=["id", "caption"], **common),
        TextCorpus(path=str(tmp_path / "a.txt"), **common),
    ]
    for corpus in corpora:
        rows = list(corpus.read())
        read = [row.text.decode() if isinstance(row.text, bytes) else row.text for row in rows]
        assert read == TEXTS, corpus.kind
        assert [row.where for row in rows] == [f"{corpus.path}:{i}" for i in (1, 2, 3)]
        assert [row.row for row in rows] == [0, 1, 2]
        assert {(row.source, row.licence) for row in rows} == {("test", "CC0-1.0")}
        assert len(list(corpus.model_copy(update={"limit": 2}).read())) == 2


@pytest.mark.parametrize(
    "line",
    [
        b"[" * 200_000,
        b'{"caption": "a", "caption": "b"}',
        b'{"caption": 1' + b"0" * 100_000 + b"}",
        b'["a"]',
        b'"a text alone"',
        b'{"caption": "a"',
        b'{"caption": "a"}, {"caption": "b"}',
        b'{"caption": "a"},',
    ],
    ids=["depth", "twice", "digits", "array", "text", "cut", "two", "comma"],
)
def test_a_line_that_is_no_json_object_is_refused_alone(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"caption": "fine"}\n' + line + b'\n{"caption": "fine too"}\n')
    first, odd, last = JsonlCorpus(path=str(path), source="test").read()
    assert (first.text, last.text, last.row) == (b"fine", b"fine too", 2)
    assert (odd.refused or ("",))[0] == "record_malformed"
    assert odd.where == f"{path}:2"


@pytest.mark.parametrize("line", [b'{"a": {"caption": "x", "caption": "y"}}', b'"a text alone"', b"7"])
@pytest.mark.parametrize("beside", [b'{"other": 1}', b'{"a": {"caption": "fine"}}', b"{not JSON"])
def test_what_is_refused_does_not_depend_on_the_lines_beside_it(tmp_path: Path, line: bytes, beside: bytes) -> None:
    """A piece of sound lines is parsed in one call, any other line by line."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n".join([b'{"a": {"caption": "fine"}}', line, beside]) + b"\n")
    first, odd, _ = JsonlCorpus(path=str(path), source="test", field="a.caption").read()
    assert first.text == b"fine"
    assert (odd.refused or ("",))[0] == "record_malformed"


def test_a_record_that_is_longer_than_any_caption_stops_the_reading(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"caption": "' + b"a" * MAX_RECORD + b'"}\n')
    with pytest.raises(InputCorrupt, match=r"a\.jsonl: record 1 has more than 16 MiB"):
        list(JsonlCorpus(path=str(path), source="test").read())


def test_broken_parquet_is_refused(tmp_path: Path) -> None:
    good = Path(parquet(tmp_path / "good.parquet", write_page_checksum=True, use_dictionary=False, compression="none"))
    data = good.read_bytes()
    at = data.index(b"ein K")  # neither the least nor the greatest text: it stands in the page alone
    cases = {
        "cut": data[:-9],
        "empty": b"",
        "magic": b"XXXX" + data[4:-4] + b"XXXX",
        "footer": data[:-8] + (2**31 - 1).to_bytes(4, "little") + b"PAR1",
        "page": data[:at] + b"E" + data[at + 1 :],
    }
    for name, broken in cases.items():
        path = tmp_path / f"{name}.parquet"
        path.write_bytes(broken)
        with pytest.raises(InputCorrupt, match=rf"{name}\.parquet is not a sound Parquet file"):
            list(ParquetCorpus(path=str(path), source="test").read())


def test_parquet_bomb_and_wrong_columns_are_refused(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.parquet"
    pq.write_table(pa.table({"caption": ["a" * 1_000_000] * 30}), bomb, compression="zstd", use_dictionary=False)
    with pytest.raises(InputCorrupt, match="unpack to"):
        list(ParquetCorpus(path=str(bomb), source="test").read())
    with pytest.raises(InputCorrupt, match="no column 'TEXT'; it has url, caption"):
        list(ParquetCorpus(path=parquet(tmp_path / "a.parquet"), source="test", column="TEXT").read())
    pq.write_table(pa.table({"caption": [[1], [2]]}), tmp_path / "nested.parquet")
    with pytest.raises(InputCorrupt, match="not text"):
        list(ParquetCorpus(path=str(tmp_path / "nested.parquet"), source="test").read())


def test_a_dictionary_that_unpacks_to_gigabytes_is_refused_unread(tmp_path: Path) -> None:
    path, texts = tmp_path / "bomb.parquet", pa.DictionaryArray.from_arrays([0] * 2000, ["a" * 1_000_000])
    pq.write_table(pa.table({"caption": texts}), path, compression="zstd")
    before = pa.total_allocated_bytes()
    with pytest.raises(InputCorrupt, match="would unpack to 2,000,000,000"):
        list(ParquetCorpus(path=str(path), source="test").read())
    assert path.stat().st_size < 2000
    assert pa.total_allocated_bytes() - before < 1 << 20


def test_a_long_text_among_many_others_is_no_bomb(tmp_path: Path) -> None:
    texts = [f"caption {number % 50} of these" for number in range(20_000)] + ["a" * 100_000]
    pq.write_table(pa.table({"caption": texts}), tmp_path / "a.parquet")
    assert len(list(ParquetCorpus(path=str(tmp_path / "a.parquet"), source="test").read())) == 20_001


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputCorrupt, match="Check the path"):
        list(TextCorpus(path=str(tmp_path / "none.txt"), source="test").read())


def test_dictionary_columns_and_nulls_are_text(tmp_path: Path) -> None:
    column = pa.array(["a", None, "a"]).dictionary_encode()
    pq.write_table(pa.table({"caption": column}), tmp_path / "d.parquet")
    rows = ParquetCorpus(path=str(tmp_path / "d.parquet"), source="test").read()
    assert [row.text for row in rows] == [b"a", None, b"a"]


def test_s3_reads_like_a_local_file(s3_uri: str, s3_endpoint: str, tmp_path: Path) -> None:
    local = ParquetCorpus(path=parquet(tmp_path / "a.parquet"), source="test")
    files = s3fs.S3FileSystem(endpoint_url=s3_endpoint, skip_instance_cache=True)
    files.put_file(local.path, f"{s3_uri}/a.parquet")
    remote = local.model_copy(update={"path": f"{s3_uri}/a.parquet"})
    assert [row.text for row in remote.read()] == [row.text for row in local.read()]
    with pytest.raises(InputCorrupt, match=r"s3://.*none\.txt.*Check the path"):
        list(TextCorpus(path=f"{s3_uri}/none.txt", source="test").read())


def test_a_body_that_s3_cuts_is_asked_for_again(s3_uri: str, s3_endpoint: str, tmp_path: Path, monkeypatch) -> None:
    """As the store does; where S3 stays away it is the store's error, not a broken file."""
    files = s3fs.S3FileSystem(endpoint_url=s3_endpoint, skip_instance_cache=True)
    files.pipe_file(f"{s3_uri}/a.txt", "\n".join(TEXTS).encode())
    corpus = TextCorpus(path=f"{s3_uri}/a.txt", source="test")
    inventory = corpus.cut(2)
    (first, _), asked = inventory.places(), []
    bucket = places._bucket("test", s3_endpoint, cache_folder() / "corpora")
    real = bucket.remote.cat_file

    def cut(path: str, **bounds: int) -> bytes:
        asked.append(path)
        if len(asked) < failures:
            raise aiohttp.ClientPayloadError("Response payload is not completed")
        return real(path, **bounds)

    monkeypatch.setattr(bucket.remote, "cat_file", cut)
    failures = 3
    assert [row.text for row in corpus.read_range(inventory, first, tmp_path)] == [b"a red bird", b"two   cats"]
    assert len(asked) == 3
    failures = 10**6
    monkeypatch.setattr(bucket, "deadline_s", 0.0)
    with pytest.raises(StoreAccess, match=r"cannot read s3://test/.*still failing"):
        corpus.read_range(inventory, first, tmp_path)


@pytest.mark.parametrize(("name", "between"), [("a.csv", ","), ("a.CSV.gz", ","), ("a.tsv", "\t"), ("a.txt", "\t")])
def test_what_stands_between_values_is_told_by_the_name(tmp_path, name, between):
    corpus = TableCorpus(path=str(tmp_path / name), source="s")
    assert corpus.delimiter == between
    assert corpus.content() == TableCorpus(path="elsewhere", source="s", separator=between).content()


def test_a_table_of_another_separator_says_which(tmp_path):
    (tmp_path / "a.csv").write_text('id;"caption";n\n1;a red circle;2\n')
    with pytest.raises(InputCorrupt, match="seem to have ';' between them: set `separator`"):
        list(TableCorpus(path=str(tmp_path / "a.csv"), source="s").read())


def test_reading_range_by_range_looks_at_each_row_group_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten million captions are a thousand ranges of a thousand row groups: looking at all for each is a million."""
    texts = [f"caption {number % 50} of these" * 80 for number in range(20_000)]  # dictionaries of more than 64 KiB
    pq.write_table(pa.table({"caption": texts}), tmp_path / "a.parquet", row_group_size=1000)
    looked: list[int] = []
    short, groups = parquet_limits.all_short, pq.ParquetFile(tmp_path / "a.parquet").metadata
    places = [groups.row_group(group).column(0).dictionary_page_offset for group in range(20)]
    monkeypatch.setattr(
        parquet_limits,
        "all_short",
        lambda file, chunk: looked.append(places.index(chunk.dictionary_page_offset)) or short(file, chunk),
    )
    corpus = ParquetCorpus(path=str(tmp_path / "a.parquet"), source="test")
    cut = corpus.cut(1000)
    assert looked == list(range(20))  # cutting looks at the whole file
    rows = [row.text for place in cut.places() for row in corpus.read_range(cut, place, tmp_path)]
    assert [text.decode() for text in rows] == texts
    assert looked == 2 * list(range(20))


def test_a_row_group_that_unpacks_to_gigabytes_is_refused_in_its_range_too(tmp_path: Path) -> None:
    path, texts = tmp_path / "bomb.parquet", pa.DictionaryArray.from_arrays([0] * 2000, ["a" * 1_000_000])
    pq.write_table(pa.table({"caption": texts}), path, compression="zstd")
    with pytest.raises(InputCorrupt, match="would unpack to 2,000,000,000"), path.open("rb") as file:
        parquet_limits.opened(file, str(path), lambda _: ["caption"], range(5, 6))
    with path.open("rb") as file:
        parquet_limits.opened(file, str(path), lambda _: ["caption"], range(2000, 2001))  # rows that it does not have


@pytest.mark.parametrize("leaf", ["list", "from", "value"])
def test_long_values_in_lists_and_turns_are_counted_too(tmp_path: Path, leaf: str) -> None:
    """Else a file of a kilobyte takes gigabytes where its texts are not a column of their own."""
    path, texts = tmp_path / "bomb.parquet", pa.DictionaryArray.from_arrays([0] * 2000, ["a" * 1_000_000])
    turns = [pa.array(["gpt"] * 2000), texts] if leaf == "value" else [texts, pa.array(["gpt"] * 2000)]
    values = texts if leaf == "list" else pa.StructArray.from_arrays(turns, ["from", "value"])
    table = pa.table({"a": pa.ListArray.from_arrays(range(2001), values)})
    pq.write_table(table, path, compression="zstd")
    assert path.stat().st_size < 2000
    with pytest.raises(InputCorrupt, match="would unpack to 2,000,000,000"), path.open("rb") as file:
        parquet_limits.opened(file, str(path), lambda _: ["a"])
