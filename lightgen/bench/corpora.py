"""How fast published layouts are read into batches, beside json.loads or pyarrow alone on the same file; and cleaning.

Rounds alternate the order. Cleaning is measured by the batch, as stage `source` does it, against one by one.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from lightgen.corpora.base import Corpus
from lightgen.corpora.cleaning import Limits, clean, clean_all
from lightgen.corpora.coco import CocoCorpus
from lightgen.corpora.conversations import ConversationsCorpus
from lightgen.corpora.jsonl import JsonlCorpus
from lightgen.corpora.parquet import ParquetCorpus
from lightgen.corpora.raw import BATCH_ROWS, binary
from lightgen.corpora.rehearsal import captions
from lightgen.corpora.table import TableCorpus
from lightgen.corpora.tokenizer import counter

ODD = ("Tom &amp; <b>Jerry</b> poster", "it\u2019s a caf\u00e9 \u2013 at night", "  two   spaces ")
ODD_SHARE = 0.1  # of web captions that need repair, as in LAION


@dataclass(frozen=True)
class Reading:
    """Rows a second of one way, medians, and by how much ours is faster in each round: least, median, most."""

    name: str
    ours: float
    peer: float
    ratios: tuple[float, float, float]


def bench_corpora(rows: int, rounds: int = 5) -> list[Reading]:
    """Every layout that has a peer, then cleaning."""
    texts = _texts(rows)
    with tempfile.TemporaryDirectory() as folder:
        pairs = _layouts(Path(folder), texts)
        found = [_measured(name, rows, ours, peer, rounds) for name, ours, peer in pairs]
    return [*found, _cleaning(texts, rounds)]


Pair = tuple[str, Callable[[], Any], Callable[[], Any]]


def _layouts(folder: Path, texts: Sequence[str]) -> list[Pair]:
    """Files of each layout, and who reads them."""
    ids = [f"{row:09d}" for row in range(len(texts))]
    turns = [[{"from": "human", "value": "<image>\nSay it."}, {"from": "gpt", "value": text}] for text in texts]
    lines, document, talks = folder / "a.jsonl", folder / "coco.json", folder / "llava.json"
    named = zip(ids, texts, strict=True)
    lines.write_text("".join(json.dumps({"id": id, "caption": text}) + "\n" for id, text in named))
    annotations = [{"image_id": row, "id": row, "caption": text} for row, text in enumerate(texts)]
    document.write_text(json.dumps({"images": [{"id": 1}], "annotations": annotations}))
    records = [{"id": id, "image": f"{id}.jpg", "conversations": one} for id, one in zip(ids, turns, strict=True)]
    talks.write_text(json.dumps(records))
    table, tabs, commas, talking = folder / "a.parquet", folder / "a.tsv", folder / "a.csv", folder / "talks.parquet"
    pq.write_table(pa.table({"url": ids, "caption": list(texts)}), table)
    pq.write_table(pa.table({"id": ids, "conversations": turns}), talking)
    tabs.write_text("".join(f"{id}\t{text}\n" for id, text in zip(ids, texts, strict=True)))
    pa_csv.write_csv(pa.table({"url": ids, "caption": list(texts)}), commas)
    names = ["url", "caption"]
    return [
        ("JSON lines", _read(JsonlCorpus(path=str(lines), source="b")), lambda: _json_lines(lines)),
        ("COCO", _read(CocoCorpus(path=str(document), source="b")), lambda: json.loads(document.read_bytes())),
        ("LLaVA, JSON", _read(ConversationsCorpus(path=str(talks), source="b")),
         lambda: json.loads(talks.read_bytes())),
        ("LLaVA, Parquet", _read(ConversationsCorpus(path=str(talking), source="b")),
         lambda: _column(talking, "conversations")),
        ("Parquet", _read(ParquetCorpus(path=str(table), source="b")), lambda: _column(table, "caption")),
        ("TSV without quotes", _read(TableCorpus(path=str(tabs), source="b", header=names)),
         lambda: _csv(tabs, "\t", names)),
        ("CSV, all quoted", _read(TableCorpus(path=str(commas), source="b")), lambda: _csv(commas, ",", None)),
    ]  # fmt: skip


def _read(corpus: Corpus) -> Callable[[], int]:
    return lambda: sum(len(batch) for file in corpus.files() for batch in file.batches())


def _json_lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for line in file if json.loads(line))


def _column(path: Path, name: str) -> int:
    return sum(batch.num_rows for batch in pq.ParquetFile(path).iter_batches(batch_size=BATCH_ROWS, columns=[name]))


def _csv(path: Path, separator: str, names: list[str] | None) -> int:
    read = pa_csv.ReadOptions(use_threads=False, column_names=names)
    quoted = pa_csv.ParseOptions(delimiter=separator, quote_char='"' if separator == "," else False)
    convert = pa_csv.ConvertOptions(include_columns=["caption"], column_types={"caption": pa.string()})
    return pa_csv.read_csv(path, read, quoted, convert).num_rows


def _cleaning(texts: Sequence[str], rounds: int) -> Reading:
    raw = [text.encode() for text in texts]
    batches = [binary(raw[at : at + BATCH_ROWS]) for at in range(0, len(raw), BATCH_ROWS)]
    limits, count = Limits(), counter("words")
    return _measured(
        "cleaning, by the batch against one by one",
        len(texts),
        lambda: [clean_all(batch, limits, count) for batch in batches],
        lambda: [clean(text, limits, count) for text in raw],
        rounds,
    )


def _measured(name: str, rows: int, ours: Callable[[], object], peer: Callable[[], object], rounds: int) -> Reading:
    mine, theirs = list[float](), list[float]()
    turns = [(mine, ours), (theirs, peer)]
    for at in range(rounds):
        for rates, run in turns if at % 2 else turns[::-1]:
            rates.append(_rate(rows, run))
    ratios = sorted(own / other for own, other in zip(mine, theirs, strict=True))
    spread = (ratios[0], statistics.median(ratios), ratios[-1])
    return Reading(name, statistics.median(mine), statistics.median(theirs), spread)


def _rate(rows: int, run: Callable[[], object]) -> float:
    began = time.process_time()
    run()
    return rows / (time.process_time() - began)


def _texts(rows: int) -> list[str]:
    """Captions of web length, of which a tenth needs repair."""
    random, known = Random(0), captions("bench")
    return [
        random.choice(ODD) if random.random() < ODD_SHARE else f"{random.choice(known)}, number {row}"
        for row in range(rows)
    ]
