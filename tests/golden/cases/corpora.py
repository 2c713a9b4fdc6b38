"""Corpora: rows and ranges of small files."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lightgen.corpora.base import Corpus, FileCorpus
from lightgen.corpora.coco import CocoCorpus
from lightgen.corpora.conversations import ConversationsCorpus
from lightgen.corpora.hf_datasets import DatasetsCorpus
from lightgen.corpora.json_document import JsonCorpus
from lightgen.corpora.jsonl import JsonlCorpus
from lightgen.corpora.parquet import ParquetCorpus
from lightgen.corpora.raw import RawCaption
from lightgen.corpora.scenes import ScenesCorpus
from lightgen.corpora.table import TableCorpus
from lightgen.corpora.text import TextCorpus
from lightgen.corpora.webdataset import WebdatasetCorpus
from tests.golden.compare import plain
from tests.golden.subject import Output, Subject

TEXTS = ["a red bird", "", "  two\ttabs", "caf\u00e9 au lait", "the last"]
FILE = {"path": "given", "source": "test"}
LICENSED = {"path": "given", "source": "other", "licence": "CC0-1.0"}
LATIN = {"latin": FILE | {"encoding": "latin-1"}}


def subjects() -> list[Subject]:
    """One a member."""
    splits = {split: {"split": split, "count": 12} for split in ("train", "preference", "test")}
    return [
        Subject("corpus scenes", (ScenesCorpus,), ScenesCorpus, splits | MORE, _cut),
        Subject("corpus text", (TextCorpus,), TextCorpus, {"plain": FILE, "licensed": LICENSED} | LATIN, _text),
        Subject("corpus jsonl", (JsonlCorpus,), JsonlCorpus, {"plain": FILE, "x": LICENSED | {"field": "x"}} | LATIN,
                _jsonl),
        Subject("corpus table", (TableCorpus,), TableCorpus, TABLES, _table),
        Subject("corpus parquet", (ParquetCorpus,), ParquetCorpus, {"plain": FILE, "x": LICENSED | {"column": "x"},
                "lists": FILE | {"column": "deep.lists"}}, _parquet),
        Subject("corpus json", (JsonCorpus,), JsonCorpus, JSON, _json),
        Subject("corpus coco", (CocoCorpus,), CocoCorpus, {"plain": FILE, "n": LICENSED | {"field": "note"}} | LATIN,
                _coco),
        Subject("corpus conversations", (ConversationsCorpus,), ConversationsCorpus,
                {"plain": FILE, "turns": LICENSED | {"field": "turns"}} | LATIN, _conversations),
        Subject("corpus webdataset", (WebdatasetCorpus,), WebdatasetCorpus,
                {"plain": FILE, "long": LICENSED | {"field": "long"}}, _webdataset),
        Subject("corpus datasets", (DatasetsCorpus,), DatasetsCorpus,
                {"plain": FILE, "x": LICENSED | {"column": "x"}}, _datasets),
    ]  # fmt: skip


MORE = {"more": {"split": "train", "count": 30}}
TABLES: dict[str, dict[str, Any]] = {
    "plain": FILE,
    "csv": LICENSED | {"separator": ",", "column": "x"},
    "header": FILE | {"header": ["n", "x", "caption"]},
    "minimal": FILE | {"separator": "\t", "quoting": "minimal", "quote": "'"},
    "none": FILE | {"separator": ",", "quoting": "none", "column": "x"},
    "latin": FILE | {"encoding": "latin-1"},
}
JSON: dict[str, dict[str, Any]] = {
    "plain": FILE,
    "items": LICENSED | {"items": "rows", "field": "deep.text"},
    "latin": FILE | {"encoding": "latin-1"},
}
RECORDS: list[Any] = [
    {"caption": 'first, \\ "quoted" [ and {', "note": "n"},
    {"caption": ["second", "third"]},
    "a text alone",
    {"deep": {"text": "deep"}, "note": 3},
    {"caption": None},
    7,
]
TURNS = [
    [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "an answer"}],
    [{"from": "human", "value": "Add 2 and 3."}, {"from": "gpt", "value": "5"}],
    [{"from": "human", "value": "<image>"}],
]


def _cut(corpus: Corpus, folder: Path) -> Output:
    """All rows, and the ranges of two rows that they are cut into; a range read again must give its rows."""
    rows, cut = list(corpus.read()), corpus.cut(2)
    again = [row for place in cut.places() for row in corpus.read_range(cut, place, folder)]
    assert again == rows
    shown = [[_text_of(row.text), row.source, row.licence, row.row, *_more(row)] for row in rows]
    return {"rows": plain(shown), "ranges": [list(one) for one in cut.ranges], "start": cut.start, "column": cut.column}


def _more(row: RawCaption) -> list[Any]:
    """What few rows have: a place among the captions of a record, and why there is none."""
    return [row.part, *(row.refused or ())] if row.part or row.refused else []


def _text_of(text: str | bytes | None) -> str | None:
    return text.decode("utf-8", "backslashreplace") if isinstance(text, bytes) else text


def _at(corpus: FileCorpus, path: Path) -> FileCorpus:
    return corpus.model_copy(update={"path": str(path)})


def _text(corpus: TextCorpus, folder: Path) -> Output:
    (folder / "a.txt").write_bytes("\n".join(TEXTS).encode() + b"\nnot \xff UTF-8\r\n")
    return _cut(_at(corpus, folder / "a.txt"), folder)


def _jsonl(corpus: JsonlCorpus, folder: Path) -> Output:
    lines = [f'{{"caption": "{number} {{}}", "x": {number}}}' for number in range(4)]
    (folder / "a.jsonl").write_text("\n".join([*lines, "", '{"caption": null, "x": "caf\u00e9"}', ""]))
    return _cut(_at(corpus, folder / "a.jsonl"), folder)


def _table(corpus: TableCorpus, folder: Path) -> Output:
    if corpus.separator == ",":
        text = 'n,x,caption\n1,"a, b",first\n2,"two\nlines",second\n3,plain\n'
    else:
        text = 'n\tx\tcaption\n1\ta, b\tfirst\n2\t"two\tsecond\n\n3\tshort\n'
    (folder / "a.tsv").write_text(text)
    return _cut(_at(corpus, folder / "a.tsv"), folder)


def _parquet(corpus: ParquetCorpus, folder: Path) -> Output:
    deep = [{"lists": one} for one in (["one", "two"], None, [], ["three"], ["four", None], ["five"])]
    x = pa.array([text.encode() for text in [*TEXTS, "z"]], pa.binary())
    table = pa.table({"caption": [*TEXTS, None], "x": x, "deep": deep})
    pq.write_table(table, folder / "a.parquet", row_group_size=3)
    return _cut(_at(corpus, folder / "a.parquet"), folder)


def _json(corpus: JsonCorpus, folder: Path) -> Output:
    document = {"info": {"n": [1]}, "other": [{"caption": "no"}], "rows": RECORDS} if corpus.items else RECORDS
    (folder / "a.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
    return _cut(_at(corpus, folder / "a.json"), folder)


def _coco(corpus: CocoCorpus, folder: Path) -> Output:
    rows = [{"image_id": 7, "id": number, "caption": f" cup {number}\n", "note": "n"} for number in range(3)]
    (folder / "a.json").write_text(json.dumps({"images": [{"id": 7}], "annotations": rows, "licenses": []}))
    return _cut(_at(corpus, folder / "a.json"), folder)


def _conversations(corpus: ConversationsCorpus, folder: Path) -> Output:
    """The three forms of the same turns."""
    rows = [{"id": str(number), corpus.field: turns} for number, turns in enumerate(TURNS)]
    (folder / "a.json").write_text(json.dumps([*rows, {"image": "b.jpg", corpus.field: TURNS[1]}]))
    (folder / "a.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    pq.write_table(pa.table({corpus.field: TURNS}), folder / "a.parquet")
    files = [_at(corpus, path).files()[0] for path in sorted(folder.glob("a.*"))]
    return [_cut(file, folder) for file in files]


def _webdataset(corpus: WebdatasetCorpus, folder: Path) -> Output:
    members = {
        "a/0.json": {"caption": "from json", "long": "a long one"}, "a/0.jpg": None, "1.txt": "from text", "1.json": {},
        "2.v2.json": {"long": ["l", "m"], "prompt": "a prompt"}, "3.jpg": None, "4.json": [],
    }  # fmt: skip
    with tarfile.open(folder / "a.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in members.items():
            data = content.encode() if isinstance(content, str) else json.dumps(content).encode()
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 1.5
            tar.addfile(info, io.BytesIO(data))
    return _cut(_at(corpus, folder / "a.tar"), folder)


def _datasets(corpus: DatasetsCorpus, folder: Path) -> Output:
    """As the library writes it: several batches in a file."""
    table = pa.table({"caption": [*TEXTS, None], "x": [[text] for text in [*TEXTS, "z"]]})
    path = folder / "data-00000-of-00001.arrow"
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=4)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))
    return _cut(_at(corpus, folder).files()[0], folder)
