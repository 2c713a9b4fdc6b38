"""What it takes to seal a version of many rows: fingerprint and duplicate keys, merged in parts, beside all at once.

Digests and keys are random and lie in Parquet shards, as the store writes them. Each way runs in a process of its own,
so that its peak of memory is its own.
"""

import hashlib
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lightgen.bench.apart import apart, peak_gb
from lightgen.storage.digests import DIGESTS
from lightgen.storage.merge import checked_fingerprint
from lightgen.storage.parquet import write_parquet

SHARD_ROWS = 10_000


@dataclass(frozen=True)
class MergeCost:
    """One way: seconds, and the most memory beyond that of the process before it began."""

    name: str
    seconds: float
    peak_gb: float
    fingerprint: str


class _Digests:
    """A version as far as the merge reads it."""

    def __init__(self, folder: Path, rows: int) -> None:
        self.ref, self.rows = "bench", rows
        self.paths = sorted(folder.glob("*.parquet"))
        self.n_shards = len(self.paths)

    def digests(self, shard: int) -> pa.Table:
        return pq.read_table(self.paths[shard], page_checksum_verification=True)


def merge_costs(rows: int) -> list[MergeCost]:
    """Ours, then the baseline, over the same `rows`."""
    with tempfile.TemporaryDirectory() as folder:
        _write(Path(folder), rows)
        ways = {"merged in parts": _in_parts, "all at once": _at_once}
        found = [apart(_measure, name, way, Path(folder), rows) for name, way in ways.items()]
    assert len({cost.fingerprint for cost in found}) == 1, "both ways give one fingerprint"
    return found


def _write(folder: Path, rows: int) -> None:
    rng = np.random.default_rng(0)
    for start in range(0, rows, SHARD_ROWS):
        count = min(SHARD_ROWS, rows - start)
        digests = sorted(rng.bytes(32) for _ in range(count))
        keys = [hashlib.sha256(digest).hexdigest() for digest in digests]
        table = pa.table({"key": keys, "digest": digests}, schema=DIGESTS)
        (folder / f"{start:012d}.parquet").write_bytes(write_parquet(table))


def _in_parts(version: _Digests) -> str:
    return checked_fingerprint(version)  # pyright: ignore[reportArgumentType]


def _at_once(version: _Digests) -> str:
    table = pa.concat_tables([version.digests(shard) for shard in range(version.n_shards)])
    assert len(table["key"].value_counts()) == table.num_rows, "random keys are all different"
    return hashlib.sha256(b"".join(sorted(table["digest"].to_pylist()))).hexdigest()


def _measure(name: str, way: Callable[[_Digests], str], folder: Path, rows: int) -> MergeCost:
    version, before = _Digests(folder, rows), peak_gb()
    began = time.perf_counter()
    fingerprint = way(version)
    return MergeCost(name, time.perf_counter() - began, peak_gb() - before, fingerprint)
