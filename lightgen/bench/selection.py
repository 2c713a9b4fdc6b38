"""What it takes to source captions and to select from them: seconds, processor time, memory, and how time grows.

Each size runs in a process of its own, so that its peak of memory is its own. Processor time is that of this process,
all its threads and its worker processes.
"""

import math
import os
import resource
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
from lightgen.work import Context, RunConfig

SHARD_ROWS = 10_000
CHOSEN = 0.2


@dataclass(frozen=True)
class Spent:
    """Seconds by the clock, and of processors."""

    wall_s: float
    cpu_s: float


@dataclass(frozen=True)
class SelectCost:
    """Captions, prompts chosen of them, what both stages took, and the most memory of this process and of a worker."""

    rows: int
    chosen: int
    source: Spent
    select: Spent
    peak_gb: float
    worker_gb: float


def select_costs(sizes: Sequence[int], shard_rows: int = SHARD_ROWS, workers: int = 1) -> list[SelectCost]:
    """One line a size, of CHOSEN captions each; `source` maps on so many worker processes where they are several."""
    with tempfile.TemporaryDirectory() as folder:
        return [_cost(Path(folder) / f"{rows}", rows, shard_rows, workers) for rows in sizes]


def growth(costs: Sequence[SelectCost]) -> float:
    """The exponent of processor time of both stages from the smallest to the largest size."""
    first, last = costs[0], costs[-1]
    seconds = (last.source.cpu_s + last.select.cpu_s) / (first.source.cpu_s + first.select.cpu_s)
    return math.log(seconds) / math.log(last.rows / first.rows)


def _cost(folder: Path, rows: int, shard_rows: int, workers: int) -> SelectCost:
    folder.mkdir()
    _write(folder / "captions.parquet", rows)
    return apart(_measure, folder, rows, shard_rows, workers)


def _write(path: Path, rows: int) -> None:
    schema = pa.schema([pa.field("caption", pa.large_string())])
    with pq.ParquetWriter(path, schema) as writer:
        for first in range(0, rows, BLOCK):
            texts = real_shaped(min(BLOCK, rows - first), first)
            writer.write_table(pa.table({"caption": texts}, schema=schema), row_group_size=10_000)


def _measure(folder: Path, rows: int, shard_rows: int, workers: int) -> SelectCost:
    run = RunConfig(engine="processes", workers=workers) if workers > 1 else RunConfig()
    context = Context(open_or_create(str(folder / "store")), run=run)
    corpus = ParquetCorpus(path=str(folder / "captions.parquet"), column="caption", source="bench")
    began = _now()
    captions = source(SourceConfig(corpora=[corpus], shard_rows=shard_rows), context)
    sourced = _now()
    count = max(1, int(rows * CHOSEN))
    prompts = select(captions, SelectConfig(count=count, choice=BalancedParts()), context)
    ended = _now()
    of_worker = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9 if workers > 1 else 0.0
    return SelectCost(rows, prompts.rows, _between(began, sourced), _between(sourced, ended), peak_gb(), of_worker)


def _now() -> Spent:
    used = os.times()
    return Spent(time.perf_counter(), used.user + used.system + used.children_user + used.children_system)


def _between(first: Spent, last: Spent) -> Spent:
    return Spent(last.wall_s - first.wall_s, last.cpu_s - first.cpu_s)
