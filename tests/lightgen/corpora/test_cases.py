"""Files that people have: each is read right, or refused by name, or a row of it is refused alone with its reason."""

import bz2
import gzip
import io
import json
import lzma
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from lightgen.corpora.table import TableCorpus
from lightgen.errors import InputCorrupt
from tests.lightgen.corpora.reading import corpus, read

CASES = Path(__file__).parents[2] / "cases" / "captions"
TEXT, ROWS = "a red bird on a wall", ["a red bird on a wall", "two blue cups"]


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


def test_a_tab_table_whose_header_is_quoted_is_written_quoted(tmp_path: Path) -> None:
    """Though no value needed it, as where a writer puts quotes around all of them, or wrote no row."""
    names = '"id"\t"caption"\r\n'
    for name, rows in (("a", '"1"\t"a dog"\r\n"2"\t"a cat"'), ("b", ""), ("c", '"3"\t"a ""cow"""\n"4"\ta hen\n')):
        (tmp_path / f"{name}.tsv").write_text(names + rows)
    assert read("table", tmp_path) == ["a dog", "a cat", 'a "cow"', "a hen"]
    assert read("table", tmp_path / "a.tsv", header=["id", "caption"]) == ['"caption"', '"a dog"', '"a cat"']
    for settings in ({"quoting": "none"}, {"quote": "'"}):
        with pytest.raises(InputCorrupt, match=r"Quotes seem to stand around its values: set `quote`, or `quoting: m"):
            read("table", tmp_path / "a.tsv", **settings)
    (tmp_path / "d.tsv").write_text('"caption"\tid\n"Open" is on a sign\t1\n')
    assert read("table", tmp_path / "d.tsv", column='"caption"') == ['"Open" is on a sign']


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


def test_linked_folders_are_read_and_each_once(tmp_path: Path) -> None:
    folder = tmp_path / "captions"
    for name in ("captions/inner", "elsewhere"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "a.txt").write_text(f"{TEXT}\n")
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "up").symlink_to(folder)
    assert read("text", folder) == [TEXT, TEXT]
    assert read("text", folder / "**" / "*.txt") == [TEXT, TEXT]


def test_the_home_of_a_user_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.txt").write_text(f"{TEXT}\n")
    assert read("text", "~/a.txt") == read("text", "~/*.txt") == [TEXT]


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


@pytest.mark.parametrize("name", ["metadata", "metadata_blank_end", "metadata_bom"])
def test_metadata_of_an_evaluation_are_a_corpus_too(name: str) -> None:
    found = read("jsonl", CASES / f"{name}.jsonl", field="prompt")
    assert found == ["a photo of two clocks", "a photo of a  red cup", "a photo of the king\u2019s bench"]
