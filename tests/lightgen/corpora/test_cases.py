"""Files that people have: each is read right, or refused by name, or a row of it is refused alone with its reason."""

import bz2
import gzip
import io
import json
import lzma
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import TypeAdapter, ValidationError

from lightgen.corpora.base import Corpus
from lightgen.corpora.config import CorpusConfig
from lightgen.corpora.table import TableCorpus
from lightgen.errors import InputCorrupt

CASES = Path(__file__).parents[2] / "cases" / "captions"
CONFIG: TypeAdapter[Any] = TypeAdapter(CorpusConfig)
TEXT, ROWS = "a red bird on a wall", ["a red bird on a wall", "two blue cups"]


def corpus(kind: str, path: Path | str, **settings: Any) -> Corpus:
    return CONFIG.validate_python({"kind": kind, "path": str(path), "source": "test", **settings})


def read(kind: str, path: Path | str, **settings: Any) -> list[str | None]:
    """Texts, and the reasons of what is refused. Reading range by range must give the same."""
    made = corpus(kind, path, **settings)
    rows = list(made.read())
    again = [
        row
        for file in made.files()
        for inventory in [file.cut(2)]
        for place in inventory.places()
        for row in file.read_range(inventory, place, scratch())
    ]
    assert again == rows
    return [row.refused[0] if row.refused else row.text.decode() if row.text is not None else None for row in rows]


@pytest.fixture(autouse=True)
def _scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(f"{__name__}.scratch", lambda: folder)


def scratch() -> Path:
    raise NotImplementedError


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "json_list",
            ["a brown horse by a fence", "horse standing on grass", "an old boat on a lake", "a boat at dawn"],
        ),
        ("json_language_map", ["caption_not_text"]),
        ("json_flags", ["caption_not_text", "caption_not_text", "a real caption of a boat"]),
        ("missing_field", [TEXT, None, "two blue cups"]),
        ("nan_caption", [TEXT, None]),
        ("nan_elsewhere", ROWS),
        ("null", [TEXT, None, ""]),
        ("one_bad_line", [TEXT, "record_malformed", "a green door"]),
    ],
)
def test_odd_values_of_json_lines_are_never_made_text(name: str, expected: list[str | None]) -> None:
    assert read("jsonl", CASES / f"{name}.jsonl") == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("[]", [None]),
        ('["a cat", null, "a dog"]', ["a cat", "a dog"]),
        ('["a cat", 7]', ["caption_not_text"]),
        ('[["a cat"]]', ["caption_not_text"]),
        ("0.5", ["caption_not_text"]),
        ("false", ["caption_not_text"]),
        ("Infinity", ["caption_not_text"]),
        ("{}", ["caption_not_text"]),
    ],
)
def test_siblings_of_odd_values(tmp_path: Path, value: str, expected: list[str | None]) -> None:
    (tmp_path / "a.jsonl").write_text(f'{{"caption": {value}}}\n{{"caption": "the last"}}\n')
    assert read("jsonl", tmp_path / "a.jsonl") == [*expected, "the last"]


def test_turns_in_the_field_of_captions_are_no_text() -> None:
    assert read("jsonl", CASES / "json_conversations.jsonl", field="conversations") == ["caption_not_text"]


def test_two_captions_of_a_record_have_two_ids() -> None:
    rows = list(corpus("jsonl", CASES / "json_list.jsonl").read())
    assert [(row.row, row.part) for row in rows] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert [row.where[-2:] for row in rows] == [":1", ":1", ":2", ":2"]


@pytest.mark.parametrize("name", ["llava_conversations.json", "coco_captions.json"])
def test_a_document_given_as_lines_is_refused_by_name(name: str) -> None:
    with pytest.raises(InputCorrupt, match="one JSON document, not lines: use kind `json`, or `coco` or `conver"):
        read("jsonl", CASES / name)


def test_documents_are_read_by_kinds_of_their_own() -> None:
    assert read("coco", CASES / "coco_captions.json") == ["Two mugs on a desk.", "A desk with mugs."]
    said = "A tall lighthouse stands on grey rocks."
    assert read("conversations", CASES / "llava_conversations.json") == [said, "record_without_image"]
    assert read("conversations", CASES / "json_conversations.jsonl") == [said]


def test_records_of_other_lengths_than_the_header_are_refused() -> None:
    assert read("table", CASES / "csv_ragged.csv") == ["record_ragged", "an empty street", "record_ragged"]
    header = ["caption", "image"]
    assert read("table", CASES / "csv_ragged_caption_first.csv", header=header) == [
        "record_ragged",
        "an empty street at night",
    ]
    assert read("table", CASES / "tsv_tab_inside.tsv") == ["record_ragged", "an empty street"]


def test_records_of_other_lengths_are_counted_not_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The csv module is asked about wrong quotes and stray carriage returns alone, blank lines or not."""
    (tmp_path / "a.csv").write_bytes(b'id,caption\n1,"a, ""b"""\n\n2,"a","b"\n"3"\n4,x"y\n5,a\rb,c\n6,z\n')
    parsed, _value = [], TableCorpus._value
    monkeypatch.setattr(TableCorpus, "_value", lambda *given: parsed.append(given[1]) or _value(*given))
    rows = list(corpus("table", tmp_path / "a.csv").read())
    assert parsed == [b'4,x"y\n', b"5,a\rb,c\n"]
    assert [row.text for row in rows] == [b'a, "b"', b'2,"a","b"', b'"3"', b'x"y', b"5,a\rb,c", b"z"]
    assert [row.refused and row.refused[1] for row in rows[1:3]] == [
        "3 values under 2 names of columns", "1 values under 2 names of columns",
    ]  # fmt: skip


def test_quoted_tables_give_the_same_with_tabs_and_commas() -> None:
    expected = ['a shop sign that says "Open" in red', "a poem on a wall\nin two lines", "a plain street"]
    assert read("table", CASES / "quoted.csv") == expected
    assert read("table", CASES / "quoted.tsv") == expected
    literal = read("table", CASES / "quoted.tsv", quoting="none")
    assert literal[0] == '"a shop sign that says ""Open"" in red"'
    assert literal[1:3] == ["record_ragged", 'in two lines"']


def test_quotes_of_another_sign_are_set() -> None:
    path = CASES / "single_column.csv"
    with pytest.raises(InputCorrupt, match="';' between them: set `separator`"):
        read("table", path)
    assert read("table", path, separator=";") == ["record_ragged"]
    assert read("table", path, separator=";", quote="'") == ["a street; wet from rain"]


def test_a_tab_table_is_unquoted_unless_it_is_written_quoted(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text('caption\tn\n"Open" is on a sign\t1\n"All of it"\t2\na 5" pipe\t3\n')
    assert read("table", path) == ['"Open" is on a sign', '"All of it"', 'a 5" pipe']


def test_an_open_quote_costs_one_record_not_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    rows = [f"{number}.jpg,a caption of number {number}" for number in range(500)]
    rows[7] = '7.jpg,"an open quote'
    path.write_text("\n".join(["image,caption", *rows]) + "\n")
    found = read("table", path)
    assert len(found) == 500
    assert [place for place, text in enumerate(found) if text == "record_malformed"] == [7]
    rows[300] = '300.jpg,"another'
    path.write_text("\n".join(["image,caption", *rows]) + "\n")
    found = read("table", path)
    assert [place for place, text in enumerate(found) if text == "record_malformed"] == [7, 300]


@pytest.mark.parametrize(
    ("kind", "name", "settings", "encoding"),
    [
        ("table", "header_latin1.tsv", {"column": "légende"}, "latin-1"),
        ("jsonl", "field_latin1.jsonl", {"field": "légende"}, "latin-1"),
        ("table", "utf16.tsv", {}, "utf-16"),
        ("jsonl", "utf16.jsonl", {}, "utf-16"),
        ("text", "utf16.txt", {}, "utf-16"),
    ],
)
def test_another_encoding_is_refused_by_name_and_read_when_it_is_set(
    kind: str, name: str, settings: dict[str, Any], encoding: str
) -> None:
    with pytest.raises(InputCorrupt) as told:
        read(kind, CASES / name, **settings)
    message = str(told.value)
    assert f"`encoding: {encoding}`" in message
    assert message.isascii()
    assert len(message) < 400
    texts = read(kind, CASES / name, **settings, encoding=encoding)
    assert texts in (["un café"], ["un petit café"], ["a small café"], ["a small house on a hill", "a red barn"])


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32", "cp1252"])
def test_siblings_of_encodings(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("un café\nein Käfer\n".encode(encoding))
    if encoding.startswith("utf"):
        with pytest.raises(InputCorrupt, match="Set `encoding: utf-"):
            read("text", path)
    assert read("text", path, encoding=encoding) == ["un café", "ein Käfer"]
    with pytest.raises(ValidationError, match="there is no encoding 'latin-99'"):
        corpus("text", path, encoding="latin-99")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "punycode"])
def test_an_encoding_that_a_file_is_not_in_is_an_error_with_its_path(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("\u00fcn caf\u00e9\n".encode("utf-16-le"))
    with pytest.raises(InputCorrupt, match=r"a\.txt is not .*Set another `encoding`"):
        read("text", path, encoding=encoding)
    for none in ("idna", "undefined"):
        with pytest.raises(ValidationError, match=f"there is no encoding '{none}'"):
            corpus("text", path, encoding=none)


@pytest.mark.parametrize(
    ("begins", "told"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n", "a pointer of Git LFS.*git lfs pull"),
        (b"\n<!DOCTYPE html>\n<html><title>404</title>\n", "a web page"),
        (b"PAR1\x15\x04\n", "Parquet, not text"),
        (b"%PDF-1.4\n", "a PDF"),
        (b"\xff\xd8\xff\xe0\n", "a picture"),
        (b"\x04\x22\x4d\x18\n", "packed by lz4"),
        (b"\x5d\x00\x00\x80\x00\n", "packed by lzma"),
        (gzip.compress(gzip.compress(b"a dog", mtime=0), mtime=0), "packed twice: gzip lies within"),
        (b"a dog\ra cat\ra cow\r", "carriage return alone"),
        (b"id,caption\r1,a dog\r", "carriage return alone"),
    ],
)
@pytest.mark.parametrize("kind", ["text", "table", "jsonl"])
def test_what_is_no_text_is_refused_by_name(tmp_path: Path, kind: str, begins: bytes, told: str) -> None:
    (tmp_path / "a").write_bytes(begins)
    with pytest.raises(InputCorrupt, match=told):
        read(kind, tmp_path / "a")


@pytest.mark.parametrize(
    "lines", ['{"caption": "a dog"},\n{"caption": "a cat"},\n', '{"id": 1,\n"caption": "a dog"}\n']
)
def test_lines_none_of_which_is_json_are_refused_by_name(tmp_path: Path, lines: str) -> None:
    (tmp_path / "a.jsonl").write_text(lines)
    with pytest.raises(InputCorrupt, match="holds no JSON lines: none of its first 2 lines"):
        read("jsonl", tmp_path / "a.jsonl")


def test_white_space_around_the_name_of_a_column_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id, Caption \n1, a dog\n")
    assert read("table", tmp_path / "a.csv") == [" a dog"]


@pytest.mark.parametrize("name", ["c.jsonl.gz", "c.tsv.gz", "c.txt.gz"])
def test_gzip_is_told_by_content(tmp_path: Path, name: str) -> None:
    kind = {"jsonl": "jsonl", "tsv": "table", "txt": "text"}[name.split(".")[1]]
    found = read(kind, CASES / name)
    assert found[:1] == ["a red bird" if kind == "table" else TEXT]
    shutil.copy(CASES / name, tmp_path / "nameless")
    assert read(kind, tmp_path / "nameless") == found


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, pa.Codec("zstd").compress])
def test_siblings_of_gzip(tmp_path: Path, pack: Any) -> None:
    path = tmp_path / "a.txt"
    texts = [f"caption {number}" for number in range(50)]
    path.write_bytes(bytes(pack("\n".join(texts).encode("utf-16"))))
    assert read("text", path, encoding="utf-16") == texts
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(InputCorrupt, match=r"a\.txt is no sound \w+ stream: .*Fetch it again"):
        read("text", path, encoding="utf-16")


def test_a_compressed_file_that_unpacks_to_far_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightgen.corpora.plain_bytes.ALWAYS_ALLOWED", 1 << 20)
    path = tmp_path / "a.txt"
    path.write_bytes(gzip.compress(b"a caption of zeros\n" * 200_000))
    with pytest.raises(InputCorrupt, match=r"unpacks to more than .* bytes"):
        read("text", path)


def test_a_zip_is_named(tmp_path: Path) -> None:
    shutil.make_archive(str(tmp_path / "a"), "zip", CASES, "null.jsonl")
    with pytest.raises(InputCorrupt, match=r"is a zip archive\. Unpack it"):
        read("jsonl", tmp_path / "a.zip")


def test_folders_and_patterns_are_one_corpus_in_order_of_names() -> None:
    assert read("parquet", CASES / "spark", column="TEXT") == ROWS
    assert read("parquet", CASES / "spark" / "*.parquet", column="text") == ROWS
    assert read("parquet", CASES / "hive", column="text") == ["ein kleines Haus", "a small house"]
    assert read("parquet", CASES / "hive" / "lang=en" / "*", column="text") == ["a small house"]


def test_hidden_files_and_those_of_other_kinds_are_passed_over(tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt", "_logs.txt", ".c.txt", "d.csv", "_temporary/e.txt", "deep/f.TXT"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"caption of {name}\n")
    assert read("text", tmp_path) == ["caption of a.txt", "caption of b.txt", "caption of deep/f.TXT"]
    assert read("text", tmp_path / "_logs.txt") == ["caption of _logs.txt"]
    with pytest.raises(InputCorrupt, match=r"holds no files that end with \.parquet"):
        read("parquet", tmp_path)


def test_names_of_columns_are_found_in_any_case_unless_two_are_alike(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("URL\tTEXT\nx\ta cat\n")
    assert read("table", tmp_path / "a.tsv", column="text") == ["a cat"]
    (tmp_path / "b.tsv").write_text("Text\tTEXT\nx\ta cat\n")
    with pytest.raises(InputCorrupt, match="no column 'text'; it has Text, TEXT"):
        read("table", tmp_path / "b.tsv", column="text")
    assert read("table", tmp_path / "b.tsv", column="TEXT") == ["a cat"]
    (tmp_path / "a.jsonl").write_text('{"Prompt": "a dog"}\n')
    assert read("jsonl", tmp_path / "a.jsonl", field="prompt") == ["a dog"]


def test_nested_names_are_paths(tmp_path: Path) -> None:
    rows = [{"Task2": {"Caption": "a glass whale"}}, {"Task2": {}}, {"Task2": "no object"}, {"Task2.Caption": "itself"}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read("jsonl", tmp_path / "a.jsonl", field="task2.caption")[:3] == ["a glass whale", None, None]
    assert read("jsonl", tmp_path / "a.jsonl", field="Task2.Caption")[3] == "itself"
    table = pa.table({"meta": [{"caption": "a glass whale", "n": 1}, None, {"caption": None, "n": 2}]})
    pq.write_table(table, tmp_path / "a.parquet")
    assert read("parquet", tmp_path / "a.parquet", column="meta.caption") == ["a glass whale", None, None]
    with pytest.raises(InputCorrupt, match=r"column 'meta' is struct.*`meta\.caption` would be a field of it"):
        read("parquet", tmp_path / "a.parquet", column="meta")


def test_lists_in_parquet_are_captions_each(tmp_path: Path) -> None:
    texts = [["a cat", "a dog"], None, [], ["one", None], ["last"]]
    pq.write_table(pa.table({"all_captions": texts}), tmp_path / "a.parquet", row_group_size=2)
    assert read("parquet", tmp_path / "a.parquet", column="all_captions") == [
        "a cat",
        "a dog",
        None,
        None,
        "one",
        "last",
    ]


def test_a_large_column_that_nobody_reads_is_no_bomb() -> None:
    assert len(read("parquet", CASES / "masks_beside_captions.parquet")) == 400
    with pytest.raises(InputCorrupt, match=r"column mask of a file of .* would unpack to"):
        read("parquet", CASES / "masks_beside_captions.parquet", column="mask")


def test_a_link_that_leads_nowhere_is_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(f"{TEXT}\n")
    (tmp_path / "b.txt").symlink_to(tmp_path / "gone.txt")
    for path in (tmp_path, tmp_path / "*.txt"):
        with pytest.raises(InputCorrupt, match=r"b\.txt.*No such file"):
            read("text", path)


def test_linked_folders_are_read_and_each_once(tmp_path: Path) -> None:
    folder = tmp_path / "captions"
    for name in ("captions/inner", "elsewhere"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "a.txt").write_text(f"{TEXT}\n")
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "up").symlink_to(folder)
    assert read("text", folder) == [TEXT, TEXT]
    assert read("text", folder / "**" / "*.txt") == [TEXT, TEXT]


def test_what_is_no_file_or_elsewhere_is_refused_by_name(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.txt")
    for path in (tmp_path / "a.txt", tmp_path, "/dev/null"):
        with pytest.raises(InputCorrupt, match="is no regular file"):
            read("text", path)
    for path in (
        "https://example.com/a.txt",
        "hf://datasets/x/a.txt",
        "gs://bucket/a.txt",
        "s3:/bucket/a.txt",
        "S3://b/a",
    ):
        with pytest.raises(InputCorrupt, match="neither a local path nor s3://"):
            read("text", path)


def test_a_path_without_a_bucket_is_refused_by_name() -> None:
    for path in ("s3://", "s3:///"):
        with pytest.raises(InputCorrupt, match="names no bucket"):
            read("text", path)


def test_the_home_of_a_user_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.txt").write_text(f"{TEXT}\n")
    assert read("text", "~/a.txt") == read("text", "~/*.txt") == [TEXT]


def test_a_table_with_two_columns_of_the_wanted_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("caption,url,caption\na red cat,u,a blue dog\n")
    with pytest.raises(InputCorrupt, match=r"a\.csv has 2 columns 'caption'. Rename all but one"):
        read("table", tmp_path / "a.csv")
    assert read("table", tmp_path / "a.csv", column="url") == ["u"]


def test_what_a_mac_adds_to_a_tar_is_no_sample(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "mac.tar", "w") as tar:
        members = {"._1.txt": b"Mac OS X", "1.txt": b"a red cat", "a/._2.txt": b"fork", "a/2.txt": b"a dog"}
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    assert read("webdataset", tmp_path / "mac.tar") == ["a red cat", "a dog"]


def test_captions_of_a_tar_are_read_beside_its_pictures() -> None:
    assert read("webdataset", CASES / "text_to_image_shard.tar") == [TEXT, "two blue cups", "an image is missing here"]


def cut_within_a_header(data: bytes) -> bytes:
    return data[:1200]


def cut_between_members(data: bytes) -> bytes:
    return data[:1024]


def damaged_header(data: bytes) -> bytes:
    return data[:1024] + b"?" * 8 + data[1032:]


def twice(data: bytes) -> bytes:
    return data * 2


@pytest.mark.parametrize("harm", [cut_within_a_header, cut_between_members, damaged_header, twice])
def test_a_tar_of_which_a_part_cannot_be_read_is_refused(harm: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        for name, text in (("0.txt", TEXT), ("1.txt", "two blue cups"), ("2.txt", "a door")):
            info = tarfile.TarInfo(name)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    assert read("webdataset", path) == [TEXT, "two blue cups", "a door"]
    path.write_bytes(harm(path.read_bytes()))
    with pytest.raises(InputCorrupt, match="Fetch it again"):
        list(corpus("webdataset", path).read())
    with pytest.raises(InputCorrupt, match="Fetch it again"):
        corpus("webdataset", path).cut(2)


@pytest.mark.parametrize("name", ["metadata", "metadata_blank_end", "metadata_bom"])
def test_metadata_of_an_evaluation_are_a_corpus_too(name: str) -> None:
    found = read("jsonl", CASES / f"{name}.jsonl", field="prompt")
    assert found == ["a photo of two clocks", "a photo of a  red cup", "a photo of the king\u2019s bench"]
