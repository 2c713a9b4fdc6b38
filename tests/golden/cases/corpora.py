"""Corpora: rows and ranges of small files."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lightgen.corpora.base import Corpus, FileCorpus
from lightgen.corpora.jsonl import JsonlCorpus
from lightgen.corpora.parquet import ParquetCorpus
from lightgen.corpora.scenes import ScenesCorpus
from lightgen.corpora.table import TableCorpus
from lightgen.corpora.text import TextCorpus
from tests.golden.compare import plain
from tests.golden.subject import Output, Subject

TEXTS = ["a red bird", "", "  two\ttabs", "caf\u00e9 au lait", "the last"]
FILE = {"path": "given", "source": "test"}
LICENSED = {"path": "given", "source": "other", "licence": "CC0-1.0"}


def subjects() -> list[Subject]:
    """One a member."""
    splits = {split: {"split": split, "count": 12} for split in ("train", "preference", "test")}
    return [
        Subject("corpus scenes", (ScenesCorpus,), ScenesCorpus, splits | MORE, _cut),
        Subject("corpus text", (TextCorpus,), TextCorpus, {"plain": FILE, "licensed": LICENSED}, _text),
        Subject("corpus jsonl", (JsonlCorpus,), JsonlCorpus, {"plain": FILE, "x": LICENSED | {"field": "x"}}, _jsonl),
        Subject("corpus table", (TableCorpus,), TableCorpus, TABLES, _table),
        Subject("corpus parquet", (ParquetCorpus,), ParquetCorpus, {"plain": FILE, "x": LICENSED | {"column": "x"}},
                _parquet),
    ]  # fmt: skip


MORE = {"more": {"split": "train", "count": 30}}
TABLES: dict[str, dict[str, Any]] = {
    "plain": FILE,
    "csv": LICENSED | {"separator": ",", "column": "x"},
    "header": FILE | {"header": ["n", "x", "caption"]},
}


def _cut(corpus: Corpus, folder: Path) -> Output:
    """All rows, and the ranges of two rows that they are cut into; a range read again must give its rows."""
    rows, cut = list(corpus.read()), corpus.cut(2)
    again = [row for place in cut.places() for row in corpus.read_range(cut, place, folder)]
    assert again == rows
    shown = [[_text_of(row.text), row.source, row.licence, row.row] for row in rows]
    return {"rows": plain(shown), "ranges": [list(one) for one in cut.ranges], "start": cut.start, "column": cut.column}


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
    table = pa.table({"caption": [*TEXTS, None], "x": pa.array([text.encode() for text in [*TEXTS, "z"]], pa.binary())})
    pq.write_table(table, folder / "a.parquet", row_group_size=3)
    return _cut(_at(corpus, folder / "a.parquet"), folder)
