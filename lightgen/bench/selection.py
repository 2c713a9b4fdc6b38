"""What it takes to source captions and to select from them: seconds, peak of memory, and how both grow.

Each size runs in a process of its own, so that its peak of memory is its own.
"""

import math
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from lightgen.bench.captions import BLOCK, real_shaped
from lightgen.corpora.parquet import ParquetCorpus
from lightgen.decisions.choice import BalancedParts
from lightgen.stages.select import SelectConfig, select
from lightgen.stages.source import SourceConfig, source
from lightgen.storage.store import open_or_create
from lightgen.work import Context

SPAWN = multiprocessing.get_context("spawn")
SHARD_ROWS = 10_000
CHOSEN = 0.2


@dataclass(frozen=True)
class SelectCost:
    """Captions, prompts chosen of them, seconds of both stages, and the most memory the process held."""

    rows: int
    chosen: int
    source_s: float
    select_s: float
    peak_gb: float


def select_costs(sizes: Sequence[int], shard_rows: int = SHARD_ROWS) -> list[SelectCost]:
    """One line a size, of CHOSEN captions each."""
    with tempfile.TemporaryDirectory() as folder:
        return [_apart(Path(folder) / f"{rows}", rows, shard_rows) for rows in sizes]


def growth(costs: Sequence[SelectCost]) -> float:
    """The exponent of time of both stages from the smallest to the largest size."""
    first, last = costs[0], costs[-1]
    seconds = (last.source_s + last.select_s) / (first.source_s + first.select_s)
    return math.log(seconds) / math.log(last.rows / first.rows)


def _apart(folder: Path, rows: int, shard_rows: int) -> SelectCost:
    folder.mkdir()
    _write(folder / "captions.parquet", rows)
    ours, theirs = SPAWN.Pipe(duplex=False)
    process = SPAWN.Process(target=_measure, args=(theirs, folder, rows, shard_rows))
    process.start()
    theirs.close()
    try:
        return ours.recv()
    finally:
        process.join()


def _write(path: Path, rows: int) -> None:
    schema = pa.schema([pa.field("caption", pa.large_string())])
    with pq.ParquetWriter(path, schema) as writer:
        for first in range(0, rows, BLOCK):
            texts = real_shaped(min(BLOCK, rows - first), first)
            writer.write_table(pa.table({"caption": texts}, schema=schema), row_group_size=10_000)


def _measure(answer: Connection, folder: Path, rows: int, shard_rows: int) -> None:
    context = Context(open_or_create(str(folder / "store")))
    corpus = ParquetCorpus(path=str(folder / "captions.parquet"), column="caption", source="bench")
    began = time.perf_counter()
    captions = source(SourceConfig(corpora=[corpus], shard_rows=shard_rows), context)
    sourced = time.perf_counter()
    count = max(1, int(rows * CHOSEN))
    prompts = select(captions, SelectConfig(count=count, choice=BalancedParts()), context)
    ended = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    answer.send(SelectCost(rows, prompts.rows, sourced - began, ended - sourced, peak))
