"""Files in the layouts that are published, and who reads them: our corpus, and the library that decodes them alone."""

import io
import json
import tarfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from lightgen.corpora.base import Corpus
from lightgen.corpora.coco import CocoCorpus
from lightgen.corpora.conversations import ConversationsCorpus
from lightgen.corpora.hf_datasets import DatasetsCorpus
from lightgen.corpora.json_document import JsonCorpus
from lightgen.corpora.jsonl import JsonlCorpus
from lightgen.corpora.parquet import ParquetCorpus
from lightgen.corpora.raw import BATCH_ROWS
from lightgen.corpora.table import TableCorpus
from lightgen.corpora.webdataset import WebdatasetCorpus

NAMED: dict[str, Any] = {"source": "bench"}
NAMES = ["url", "caption"]


@dataclass(frozen=True)
class Layout:
    """One file in a layout: our corpus, and the peer, which decodes the same file."""

    name: str
    corpus: Corpus
    peer: Callable[[], object]

    def read(self) -> int:
        """Captions that our corpus gives."""
        return sum(len(batch) for file in self.corpus.files() for batch in file.batches())


def layouts(folder: Path, texts: Sequence[str]) -> list[Layout]:
    """A file of each layout, which holds these captions."""
    ids = [f"{row:09d}" for row in range(len(texts))]
    return [*_lines(folder, ids, texts), *_documents(folder, ids, texts), *_columns(folder, ids, texts),
            *_tables(folder, ids, texts), *_tars(folder, ids, texts)]  # fmt: skip


def _lines(folder: Path, ids: Sequence[str], texts: Sequence[str]) -> Iterable[Layout]:
    trace = [{"x": 0.25, "y": -0.0625, "t": 0.5}] * 20
    forms: dict[str, tuple[str, Callable[[str, str], dict[str, Any]]]] = {
        "JSON lines": ("caption", lambda id, text: {"id": id, "caption": text}),
        "Localized Narratives": ("caption", lambda id, text: {
            "image_id": id, "caption": text, "timed_caption": [{"utterance": text, "start_time": 0.5}],
            "traces": [trace]}),
        "JourneyDB": ("Task2.Caption", lambda id, text: {
            "img_path": id, "prompt": text, "Task2": {"Caption": text}, "Task3": {"Questions": [text]}}),
    }  # fmt: skip
    for name, (field, record) in forms.items():
        path = folder / f"{name}.jsonl"
        path.write_text("".join(json.dumps(record(*one)) + "\n" for one in zip(ids, texts, strict=True)))
        yield Layout(name, JsonlCorpus(path=str(path), field=field, **NAMED), _parsed_lines(path))


def _documents(folder: Path, ids: Sequence[str], texts: Sequence[str]) -> Iterable[Layout]:
    images = [{"id": id, "file_name": f"{id}.jpg", "coco_url": f"http://images.invalid/{id}.jpg", "height": 480}
              for id in ids[::5]]  # fmt: skip
    annotations = [{"image_id": row, "id": row, "caption": text} for row, text in enumerate(texts)]
    named = list(zip(ids, texts, strict=True))
    talks = [{"id": id, "image": f"{id}.jpg", "conversations": _turns(text)} for id, text in named]
    documents: list[tuple[str, type[Any], dict[str, str], Any]] = [
        ("COCO", CocoCorpus, {}, {"images": images, "annotations": annotations}),
        ("LLaVA, JSON", ConversationsCorpus, {}, talks),
        ("array of objects", JsonCorpus, {}, [{"id": id, "caption": text} for id, text in named]),
        ("array of texts", JsonCorpus, {}, list(texts)),
    ]
    for name, kind, settings, document in documents:
        path = folder / f"{name}.json"
        path.write_text(json.dumps(document))
        yield Layout(name, kind(path=str(path), **settings, **NAMED), _parsed(path))


def _columns(folder: Path, ids: Sequence[str], texts: Sequence[str]) -> Iterable[Layout]:
    plain = {"url": list(ids), "caption": list(texts)}
    columns: list[tuple[str, type[Any], dict[str, Any], str]] = [
        ("LLaVA, Parquet", ConversationsCorpus, {"conversations": list(map(_turns, texts))}, "conversations"),
        ("Parquet", ParquetCorpus, plain, "caption"),
        ("lists in Parquet", ParquetCorpus, {"caption": [[text, "a second one"] for text in texts]}, "caption"),
    ]
    for name, kind, table, column in columns:
        path = folder / f"{name}.parquet"
        pq.write_table(pa.table(table), path)
        yield Layout(name, kind(path=str(path), **NAMED), _decoded(path, column))
    path = folder / "saved.arrow"
    table = pa.table(plain)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table, 1000)  # as the library does
    yield Layout("saved by datasets", DatasetsCorpus(path=str(path), **NAMED), _loaded(path))


def _tables(folder: Path, ids: Sequence[str], texts: Sequence[str]) -> Iterable[Layout]:
    tabs, all_quoted, some = folder / "a.tsv", folder / "all.csv", folder / "some.csv"
    tabs.write_text("".join(f"{id}\t{text}\n" for id, text in zip(ids, texts, strict=True)))
    table = pa.table({"url": ids, "caption": list(texts)})
    pa_csv.write_csv(table, all_quoted)
    pa_csv.write_csv(table, some, pa_csv.WriteOptions(quoting_style="needed"))
    yield Layout("TSV without quotes", TableCorpus(path=str(tabs), header=NAMES, **NAMED), _table(tabs, "\t", NAMES))
    for name, path in (("CSV, all quoted", all_quoted), ("CSV, quoted where needed", some)):
        yield Layout(name, TableCorpus(path=str(path), **NAMED), _table(path, ",", None))


def _tars(folder: Path, ids: Sequence[str], texts: Sequence[str]) -> Iterable[Layout]:
    for ending in (".json", ".txt"):
        path = folder / f"captions{ending}.tar"
        with tarfile.open(path, "w") as tar:
            for id, text in zip(ids, texts, strict=True):
                _add(tar, f"{id}.jpg", b"x" * 2000)
                _add(tar, f"{id}{ending}", (json.dumps({"prompt": text}) if ending == ".json" else text).encode())
        yield Layout(f"tar, {ending}", WebdatasetCorpus(path=str(path), **NAMED), _members(path))


def _turns(text: str) -> list[dict[str, str]]:
    return [{"from": "human", "value": "<image>\nSay it."}, {"from": "gpt", "value": text}]


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def _parsed_lines(path: Path) -> Callable[[], int]:
    def run() -> int:
        with path.open("rb") as file:
            return sum(1 for line in file if json.loads(line))

    return run


def _parsed(path: Path) -> Callable[[], object]:
    return lambda: json.loads(path.read_bytes())


def _decoded(path: Path, name: str) -> Callable[[], int]:
    return lambda: sum(
        batch.num_rows for batch in pq.ParquetFile(path).iter_batches(batch_size=BATCH_ROWS, columns=[name])
    )


def _loaded(path: Path) -> Callable[[], int]:
    def run() -> int:
        with pa.OSFile(str(path), "rb") as file, pa.ipc.open_stream(file) as reader:
            return sum(len(batch.column("caption")) for batch in reader)

    return run


def _table(path: Path, separator: str, names: list[str] | None) -> Callable[[], int]:
    read = pa_csv.ReadOptions(use_threads=False, column_names=names)
    quoted = pa_csv.ParseOptions(delimiter=separator, quote_char='"' if separator == "," else False)
    convert = pa_csv.ConvertOptions(include_columns=["caption"], column_types={"caption": pa.string()})
    return lambda: pa_csv.read_csv(path, read, quoted, convert).num_rows


def _members(path: Path) -> Callable[[], int]:
    """Captions of a tar by tarfile, as webdataset reads it, and json.loads."""

    def run() -> int:
        found = 0
        with tarfile.open(path, "r|") as tar:
            for member in tar:
                file = tar.extractfile(member)
                assert file is not None
                data = file.read()
                if not member.name.endswith(".jpg"):
                    found += bool(json.loads(data) if member.name.endswith(".json") else data)
                tar.members.clear()  # pyright: ignore[reportAttributeAccessIssue]
        return found

    return run
