"""Bytes that are no UTF-8, wherever Parquet and Arrow hold texts: they cost their own caption and nothing else.

What is right is told by JSON lines of the same bytes.
"""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lightgen.corpora.base import FileCorpus
from lightgen.corpora.cleaning import Limits, clean
from lightgen.corpora.columns import batch_of, encoded, lists_of_texts, python_values
from lightgen.corpora.conversations import ConversationsCorpus, answer_in
from lightgen.corpora.hf_datasets import DatasetsCorpus
from lightgen.corpora.inventory import take_inventory
from lightgen.corpora.json_document import JsonCorpus
from lightgen.corpora.jsonl import JsonlCorpus
from lightgen.corpora.laion import LaionLinks
from lightgen.corpora.parquet import ParquetCorpus
from lightgen.corpora.picture_folder import PictureFolder
from lightgen.corpora.picture_tables import PictureTables
from lightgen.corpora.picture_tars import PictureTars
from lightgen.corpora.raw import RawCaption
from lightgen.corpora.webdataset import WebdatasetCorpus
from lightgen.errors import InputCorrupt

LISTS = [
    [b"a red kite", b"over the pier"], [b"caf\xe9 noir", b"a tin cup"], None, [b"ends in \xff", b"\xf0\x9f\x90\xb6"],
    [b"\xfe\xffa mark", None], [None, b"half a dog \xf0\x9f\x90"], [b"caf\xc3\xa9", b"a surrogate \xed\xa0\x80"],
]  # fmt: skip
JAGGED = [*LISTS, [], [b"one alone"], [b"\xff"] * 3, [None], [b""]]
ASKED, ANSWERED = {b"from": b"human", b"value": b"<image>\nSay \xff what."}, {b"from": b"gpt", b"value": b"a red kite"}
TURNS = [
    [ASKED, ANSWERED], [ASKED, {b"from": b"gpt", b"value": b"caf\xe9 noir"}], None, [], [ASKED],
    [ASKED, {b"from": b"GPT", b"value": b"\xfe\xffa mark"}], [{b"from": b"h\xe9", b"value": b"<image>"}, ANSWERED],
    [ASKED, ANSWERED, {b"from": b"human", b"value": b"\xff"}], [{b"from": b"\xffgpt", b"value": b"<image>"}],
    [{b"from": b"human", b"value": b"no picture"}, {b"from": b"gpt", b"value": b"\xff"}], [ASKED, ANSWERED],
]  # fmt: skip
Write = Callable[[Path, pa.Array], FileCorpus]


def lists(rows: list[Any], text: pa.DataType | None = None) -> pa.ListArray:
    """A column of lists of texts."""
    made = pa.array(rows, pa.list_(pa.binary()))
    return pa.ListArray.from_arrays(made.offsets, unseen(made.values, text), mask=made.is_null())


def unseen(values: pa.Array, text: pa.DataType | None = None) -> pa.Array:
    """Bytes as texts that nobody looked at."""
    return values.view(pa.string()).cast(text or pa.string())


def turns(rows: list[Any], *more: str) -> pa.ListArray:
    """A column of lists of turns, with more fields in each."""
    made = pa.array(rows, pa.list_(pa.struct([("from", pa.binary()), ("value", pa.binary())])))
    fields = [unseen(made.values.field(name)) for name in ("from", "value")]
    flat = pa.StructArray.from_arrays([*fields, *(fields[1] for _ in more)], ["from", "value", *more])
    return pa.ListArray.from_arrays(made.offsets, flat, mask=made.is_null())


def in_parquet(path: Path, values: pa.Array, **settings: Any) -> ParquetCorpus:
    pq.write_table(pa.table({"n": range(len(values)), "caption": values}), path, row_group_size=4)
    return ParquetCorpus(path=str(path), source="test", **settings)


def in_arrow(path: Path, values: pa.Array, **settings: Any) -> DatasetsCorpus:
    table = pa.table({"n": range(len(values)), "caption": values})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=4)
    return DatasetsCorpus(path=str(path), source="test", **settings)


def in_json(path: Path, rows: list[Any]) -> JsonlCorpus:
    """The same rows as JSON lines, byte by byte."""
    path.write_bytes(b"".join(b'{"caption": %s}\n' % _json(row) for row in rows))
    return JsonlCorpus(path=str(path), source="test")


def _json(value: Any) -> bytes:
    if isinstance(value, list):
        return b"[%s]" % b", ".join(map(_json, value))
    if isinstance(value, dict):
        return b"{%s}" % b", ".join(b"%s: %s" % (_json(key), _json(one)) for key, one in value.items())
    return b"null" if value is None else b'"%s"' % value.replace(b"\n", b"\\n")


def told(rows: list[RawCaption]) -> list[tuple[int, int, str, str | bytes | None]]:
    """Row, part, `file:row` and the text or why it is refused, as the cleaner says it."""
    found = []
    for row in rows:
        one = row.refused or clean(row.text, Limits(), lambda _: 1)
        found.append((row.row, row.part, row.where.rpartition(":")[2], one[0] if isinstance(one, tuple) else row.text))
    return found


def all_ways(corpus: FileCorpus, scratch: Path) -> list[tuple[int, int, str, str | bytes | None]]:
    """The rows of a corpus, which are the same read in batches, range by range, and up to a limit."""
    scratch.mkdir()
    rows = list(corpus.read())
    for size in (1, 3, 100):
        inventory = corpus.cut(size)
        parts = [corpus.read_range(inventory, place, scratch) for place in inventory.places()]
        assert [row for part in parts for row in part] == rows
    first = list(corpus.model_copy(update={"limit": 5}).read())
    assert first == [row for row in rows if row.row < 5]
    return told(rows)


def as_large(rows: list[Any]) -> pa.Array:
    made = lists(rows)
    return pa.LargeListArray.from_arrays(made.offsets.cast(pa.int64()), made.values, mask=made.is_null())


def as_views(rows: list[Any]) -> pa.Array:
    made = lists(rows)
    sizes = np.diff(made.offsets.to_numpy()).astype(np.int32)
    return pa.ListViewArray.from_arrays(made.offsets[:-1], pa.array(sizes), made.values, mask=made.is_null())


def as_dictionaries(rows: list[Any]) -> pa.Array:
    made = lists(rows)
    values = made.values.view(pa.binary()).dictionary_encode()
    odd = pa.DictionaryArray.from_arrays(values.indices.cast(pa.int64()), unseen(values.dictionary))
    return pa.ListArray.from_arrays(made.offsets, odd, mask=made.is_null())


LAYOUTS: dict[str, Callable[[list[Any]], pa.Array]] = {
    "list": lists,
    "bytes": lambda rows: pa.array(rows, pa.list_(pa.binary())),
    "large bytes": lambda rows: pa.array(rows, pa.large_list(pa.large_binary())),
    "large texts": lambda rows: lists(rows, pa.large_string()),
    "text views": lambda rows: lists(rows, pa.string_view()),
    "large_list": as_large,
    "list_view": as_views,
    "dictionaries": as_dictionaries,
}


@pytest.mark.parametrize("write", [in_parquet, in_arrow])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_broken_text_in_a_list_is_refused_alone(tmp_path: Path, layout: str, write: Write) -> None:
    right = told(list(in_json(tmp_path / "right.jsonl", JAGGED).read()))
    assert [one for *_, one in right].count("caption_encoding") == 8
    found = all_ways(write(tmp_path / "odd", LAYOUTS[layout](JAGGED)), tmp_path / "scratch")
    assert found == right


@pytest.mark.parametrize("write", [in_parquet, in_arrow])
def test_a_broken_text_in_a_list_of_fixed_size_is_refused_alone(tmp_path: Path, write: Write) -> None:
    flat = pa.array([text for row in LISTS for text in row or (None, None)], pa.binary())
    column = pa.FixedSizeListArray.from_arrays(unseen(flat), 2, mask=pa.array([row is None for row in LISTS]))
    found = all_ways(write(tmp_path / "odd", column), tmp_path / "scratch")
    assert found == told(list(in_json(tmp_path / "right.jsonl", LISTS).read()))


@pytest.mark.parametrize("write", [in_parquet, in_arrow])
@pytest.mark.parametrize("index", [pa.int8(), pa.int32(), pa.int64()])
def test_a_broken_text_in_a_dictionary_or_a_struct_is_refused_alone(
    tmp_path: Path, write: Any, index: pa.DataType
) -> None:
    """pyarrow checks dictionaries of Parquet when it reads them: one odd value cost the file."""
    texts = [text for row in JAGGED for text in row or [None]]
    right = told(list(in_json(tmp_path / "right.jsonl", texts).read()))
    plain = pa.array(texts, pa.binary()).dictionary_encode()
    odd = pa.DictionaryArray.from_arrays(plain.indices.cast(index), unseen(plain.dictionary))
    assert all_ways(write(tmp_path / "dictionary", odd), tmp_path / "1") == right
    for number, values in enumerate((odd, unseen(pa.array(texts, pa.binary())))):
        struct = pa.StructArray.from_arrays([values, pa.array(range(len(texts)))], ["b", "n"])
        corpus = write(tmp_path / f"struct{number}", struct, column="caption.b")
        assert all_ways(corpus, tmp_path / f"in{number}") == right


def test_lists_in_a_struct_and_of_too_many_texts(tmp_path: Path) -> None:
    rows = [[b"a red kite", b"\xff"], [b"\xff", *[b"a tin cup"] * 5000], [b"over the pier"]]
    struct = pa.StructArray.from_arrays([lists(rows)], ["b"])
    found = all_ways(in_parquet(tmp_path / "odd", struct, column="caption.b"), tmp_path / "scratch")
    assert found == told(list(in_json(tmp_path / "right.jsonl", rows).read()))
    assert found[2] == (1, 0, "2", "caption_not_text")


@pytest.mark.parametrize("times", [1, 90])
@pytest.mark.parametrize("more", [(), ("id",)])
def test_a_broken_turn_costs_its_conversation_only_where_it_is_the_caption(
    tmp_path: Path, more: tuple[str, ...], times: int
) -> None:
    """Whether turns have the two fields that are read all at once, or more; and whether few speak, or one a row."""
    in_json(tmp_path / "right.jsonl", TURNS * times)
    table = pa.table({"caption": turns(TURNS * times, *more)})
    pq.write_table(table, tmp_path / "odd.parquet", row_group_size=4 * times)
    files = [
        ConversationsCorpus(path=str(tmp_path / name), source="test", field="caption").files()[0]
        for name in ("right.jsonl", "odd.parquet")
    ]
    right, found = told(list(files[0].read())), all_ways(files[1], tmp_path / "scratch")
    assert found == right
    with (tmp_path / "odd.parquet").open("rb") as file:
        assert ("dictionary<" in str(next(files[1].columns_in(file)[1]).type)) is (times > 1)
    assert [one for *_, one in right] == times * [
        b"a red kite", "caption_encoding", "caption_not_text", "caption_not_text", "caption_not_text",
        "caption_encoding", b"a red kite", b"a red kite", "caption_not_text", "record_without_image", b"a red kite",
    ]  # fmt: skip


def test_turns_of_bytes_are_read_whatever_is_in_the_rows_beside_them(tmp_path: Path) -> None:
    """They were read where no byte was odd, and all refused where one was."""
    rows = [[ASKED, ANSWERED], [ASKED, {b"from": b"GPT", b"value": b"\xfe"}]]
    column = pa.array(rows, pa.list_(pa.struct([("from", pa.binary()), ("value", pa.binary())])))
    pq.write_table(pa.table({"caption": column}), tmp_path / "odd.parquet")
    corpus = ConversationsCorpus(path=str(tmp_path / "odd.parquet"), source="test", field="caption").files()[0]
    assert [one for *_, one in all_ways(corpus, tmp_path / "scratch")] == [b"a red kite", "caption_encoding"]


def test_turns_as_an_object_of_lists(tmp_path: Path) -> None:
    """Some writers of Parquet turn them so."""
    said = [[b"<image>", b"a red \xe9 kite"], [b"<image>", b"a tin cup"]]
    who = lists([[b"human", b"gpt"]] * 2)
    column = pa.StructArray.from_arrays([who, lists(said)], ["from", "value"])
    pq.write_table(pa.table({"caption": column}), tmp_path / "odd.parquet")
    corpus = ConversationsCorpus(path=str(tmp_path / "odd.parquet"), source="test", field="caption").files()[0]
    assert [one for *_, one in all_ways(corpus, tmp_path / "scratch")] == ["caption_encoding", b"a tin cup"]


def test_values_as_python_has_them_keep_their_bytes() -> None:
    values = turns(TURNS, "id")
    assert python_values(values[:0]) == []
    found = python_values(values)
    assert found[1][1]["value"] == found[1][1]["id"] == "caf\udce9 noir"
    assert found[2:4] == [None, []]
    whole = pa.array([[{"from": "gpt", "value": "a red kite"}], None])
    assert python_values(whole) == whole.to_pylist()
    assert answer_in({"turns": found[1]}, "turns") == [b"caf\xe9 noir"]


def test_a_broken_text_in_a_batch_costs_no_part_beside_it() -> None:
    values = encoded(lists_of_texts(lists([[b"a", b"\xff", b"c"], [b"\xfe"], None, [b"d"]])))
    texts, rows, parts, refused = batch_of(values, 7, False)
    assert texts.to_pylist() == [b"a", b"", b"c", b"", None, b"d"]
    assert rows.tolist() == [7, 7, 7, 8, 9, 10]
    assert parts is not None
    assert parts.tolist() == [0, 1, 2, 0, 0, 0]
    assert refused == dict.fromkeys((1, 3), ("caption_encoding", "not UTF-8"))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_captions_in_lists_beside_links_keep_their_bytes(tmp_path: Path, layout: str) -> None:
    column = LAYOUTS[layout](JAGGED)
    pq.write_table(pa.table({"url": ["u"] * len(column), "caption": column}), tmp_path / "links.parquet")
    links = LaionLinks(path=str(tmp_path / "links.parquet"))
    inventory = links.cut(5)
    tables = [links.read_range(inventory, place, tmp_path) for place in inventory.places()]
    found = [text for table in tables for text in table["caption"].to_pylist()]
    assert found == [row[0] if row else None for row in JAGGED]


def test_a_dictionary_of_broken_captions_beside_links(tmp_path: Path) -> None:
    odd = pa.DictionaryArray.from_arrays(pa.array([1, 0], pa.int64()), unseen(pa.array([b"\xff", b"a tin cup"])))
    pq.write_table(pa.table({"url": ["u"] * 2, "caption": odd}), tmp_path / "links.parquet")
    links = LaionLinks(path=str(tmp_path / "links.parquet"))
    inventory = links.cut(5)
    table = links.read_range(inventory, next(inventory.places()), tmp_path)
    assert table["caption"].to_pylist() == [b"a tin cup", b"\xff"]


@pytest.mark.parametrize("captions", [unseen(pa.array([b"a red kite", b"caf\xe9", b"a tin cup"])), lists(
    [[b"a red kite"], [b"caf\xe9"], [b"a tin cup"]])])  # fmt: skip
def test_a_broken_caption_or_name_of_a_picture_costs_that_row(tmp_path: Path, captions: pa.Array) -> None:
    names = unseen(pa.array([b"a.png", b"b.png", b"\xff.png"]))
    images = pa.StructArray.from_arrays([pa.array([b"1", b"2", b"3"]), names], ["bytes", "path"])
    pq.write_table(pa.table({"image": images, "caption": captions}), tmp_path / "p.parquet", row_group_size=2)
    pictures = PictureTables(path=str(tmp_path / "p.parquet"), source="test")
    found = list(pictures.read())
    said = [clean(one.caption, Limits(), lambda _: 1) for one in found]
    assert [one[0] if isinstance(one, tuple) else one.caption for one in said] == [
        "a red kite", "caption_encoding", "a tin cup"
    ]  # fmt: skip
    assert [one.name for one in found] == ["a.png", "b.png", "\\udcff.png"]
    inventory = pictures.cut(2)
    again = [one for place in inventory.places() for one in pictures.read_range(inventory, place, tmp_path)]
    assert again == found


def tar_of(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def test_names_that_are_no_utf8_cost_no_sample_of_a_tar(tmp_path: Path) -> None:
    """Neither where they are in the reason why another sample gives no caption."""
    files = {
        "a\udcff.jpg": b"", "b.json": b'{"\\ud800": 1}', "c\udcff.txt": b"a tin cup", "d.json": b'["\xff"]',
        "e.json": b'{"caption": ["a red kite", "\\udcff"]}',
    }  # fmt: skip
    corpus = WebdatasetCorpus(path=str(tar_of(tmp_path / "odd.tar", files)), source="test")
    assert [one for *_, one in all_ways(corpus, tmp_path / "scratch")] == [
        "no_caption", "no_caption", b"a tin cup", "record_malformed", b"a red kite", "caption_encoding"
    ]  # fmt: skip


def test_a_broken_byte_in_a_json_of_a_tar_costs_what_it_costs_in_a_txt(tmp_path: Path) -> None:
    """It cost the record wherever it stood."""
    files = {
        "a.txt": b"caf\xe9 noir", "b.json": b'{"caption": "caf\xe9 noir"}', "d.json": b'{"caption": ["a cup", "\xff"]}',
        "c.json": b'{"caption": "a red kite", "by": "Ren\xe9"}', "e.json": '{"caption": "a tin cup"}'.encode("utf-16"),
    }  # fmt: skip
    path = str(tar_of(tmp_path / "odd.tar", files))
    assert [one for *_, one in all_ways(WebdatasetCorpus(path=path, source="test"), tmp_path / "scratch")] == [
        "caption_encoding", "caption_encoding", b"a cup", "caption_encoding", b"a red kite", b"a tin cup"
    ]  # fmt: skip


def test_names_that_are_no_utf8_cost_no_picture(tmp_path: Path) -> None:
    files = {"a\udcff.jpg": b"1", "a\udcff.txt": b"a tin cup", "b.jpg": b"2", "b.json": b'{"\\ud800": 1}'}
    (tmp_path / "folder").mkdir()
    for name, data in files.items():
        (tmp_path / "folder" / name).write_bytes(data)
    tar_of(tmp_path / "odd.tar", files)
    sets = [PictureFolder(path=str(tmp_path / "folder"), source="a"), PictureTars(path=str(tmp_path), source="b")]
    for pictures in (file for one in sets for file in one.files()):
        inventory = take_inventory(pictures, 1)
        parts = [list(pictures.read_range(inventory, place, tmp_path)) for place in inventory.places()]
        assert [one for part in parts for one in part] == list(pictures.read())
        assert [(Path(one.name).stem, one.caption, one.reason) for part in parts for one in part] == [
            ("a\\udcff", b"a tin cup", ""), ("b", None, "no_caption")
        ]  # fmt: skip
        assert parts[1][0].detail.endswith("\\ud800")


def test_a_column_that_stands_twice_is_refused_by_name(tmp_path: Path) -> None:
    path = str(tmp_path / "twice.parquet")
    values = [pa.array(["u"]), pa.array([b"1"]), pa.array(["a"]), pa.array(["a"])]
    pq.write_table(pa.Table.from_arrays(values, ["url", "image", "caption", "caption"]), path)
    with pytest.raises(InputCorrupt, match="no column 'caption'; it has url, image, caption, caption"):
        list(ParquetCorpus(path=path, source="test").read())
    for cut in (LaionLinks(path=path).cut, PictureTables(path=path, source="test").cut):
        with pytest.raises(InputCorrupt, match="more than one column 'caption'"):
            cut(10)
    fields = pa.StructArray.from_arrays([pa.array(["a"])] * 2, ["b", "b"])
    with pytest.raises(InputCorrupt, match=r"no column 'caption\.b'"):
        list(in_arrow(tmp_path / "twice.arrow", fields, column="caption.b").read())


@pytest.mark.parametrize("write", [in_parquet, in_arrow])
def test_a_name_of_a_column_that_is_no_utf8_is_refused(tmp_path: Path, write: Write) -> None:
    corpus = write(tmp_path / "odd", pa.array(["a red kite"]))
    path = Path(corpus.path)
    path.write_bytes(path.read_bytes().replace(b"caption", b"ca\xfftion"))
    with pytest.raises(InputCorrupt, match="not a sound Parquet file: 'utf-8' codec"):
        list(corpus.read())


def test_keys_before_an_array_of_json_may_be_anything(tmp_path: Path) -> None:
    """They are passed over, and a message that names them is plain ASCII."""
    path = tmp_path / "odd.json"
    path.write_bytes(b'{"caf\xe9": 1, "\\ud800": [{}], "images": [{"caption": "a red kite"}]}')
    assert [row.text for row in JsonCorpus(path=str(path), source="test", items="images").read()] == [b"a red kite"]
    for items in ("", "none"):
        with pytest.raises(InputCorrupt, match=r"caf\\udce9, \\ud800, images") as caught:
            list(JsonCorpus(path=str(path), source="test", items=items).read())
        assert str(caught.value).isascii()


@pytest.mark.parametrize("rows", [JAGGED, [text for row in JAGGED for text in row or [None]]])
def test_broken_bytes_in_a_json_document_cost_what_they_cost_in_json_lines(tmp_path: Path, rows: list[Any]) -> None:
    records = [b'{"caption": %s, "by": "Andr\xe9"}' % _json(row) for row in rows]
    (tmp_path / "odd.json").write_bytes(b"[%s]" % b",\n".join(records))
    found = all_ways(JsonCorpus(path=str(tmp_path / "odd.json"), source="test"), tmp_path / "scratch")
    assert [one[:2] + one[3:] for one in found] == [
        one[:2] + one[3:] for one in told(list(in_json(tmp_path / "right.jsonl", rows).read()))
    ]


def test_broken_turns_in_a_json_document(tmp_path: Path) -> None:
    (tmp_path / "odd.json").write_bytes(b"[%s]" % b",".join(b'{"caption": %s}' % _json(row) for row in TURNS))
    in_json(tmp_path / "right.jsonl", TURNS)
    files = [ConversationsCorpus(path=str(tmp_path / name), source="test", field="caption").files()[0]
             for name in ("odd.json", "right.jsonl")]  # fmt: skip
    assert told(list(files[0].read())) == told(list(files[1].read()))


@pytest.mark.parametrize("write", [in_parquet, in_arrow])
def test_a_file_whose_name_is_no_utf8_is_read(tmp_path: Path, write: Write) -> None:
    corpus = write(tmp_path / "plain", pa.array(["a red kite"]))
    named = Path(corpus.path).rename(tmp_path / "odd\udcff")
    assert [row.text for row in corpus.model_copy(update={"path": str(named)}).read()] == [b"a red kite"]
