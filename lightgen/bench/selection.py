"""What it takes to source captions and to select from them: seconds, peak of memory, and how both grow.

Each size runs in a process of its own, so that its peak of memory is its own.
"""

import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from lightgen.bench.apart import apart, peak_gb
from lightgen.bench.captions import BLOCK, real_shaped
from lightgen.corpora.parquet import ParquetCorpus
from lightgen.decisions.choice import BalancedParts
from lightgen.stages.select import SelectConfig, select
from lightgen.stages.source import SourceConfig, source
from lightgen.storage.store import open_or_create
from lightgen.work import Context

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
        return [_cost(Path(folder) / f"{rows}", rows, shard_rows) for rows in sizes]


def growth(costs: Sequence[SelectCost]) -> float:
    """The exponent of time of both stages from the smallest to the largest size."""
    first, last = costs[0], costs[-1]
    seconds = (last.source_s + last.select_s) / (first.source_s + first.select_s)
    return math.log(seconds) / math.log(last.rows / first.rows)


def _cost(folder: Path, rows: int, shard_rows: int) -> SelectCost:
    folder.mkdir()
    _write(folder / "captions.parquet", rows)
    return apart(_measure, folder, rows, shard_rows)


def _write(path: Path, rows: int) -> None:
    schema = pa.schema([pa.field("caption", pa.large_string())])
    with pq.ParquetWriter(path, schema) as writer:
        for first in range(0, rows, BLOCK):
            texts = real_shaped(min(BLOCK, rows - first), first)
            writer.write_table(pa.table({"caption": texts}, schema=schema), row_group_size=10_000)


def _measure(folder: Path, rows: int, shard_rows: int) -> SelectCost:
    context = Context(open_or_create(str(folder / "store")))
    corpus = ParquetCorpus(path=str(folder / "captions.parquet"), column="caption", source="bench")
    began = time.perf_counter()
    captions = source(SourceConfig(corpora=[corpus], shard_rows=shard_rows), context)
    sourced = time.perf_counter()
    count = max(1, int(rows * CHOSEN))
    prompts = select(captions, SelectConfig(count=count, choice=BalancedParts()), context)
    ended = time.perf_counter()
    return SelectCost(rows, prompts.rows, sourced - began, ended - sourced, peak_gb())
