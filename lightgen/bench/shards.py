"""How fast tar shards are written, beside webdataset's own writer in the same run.

Ours comes with the sha256 of the file and of each member, as the store writes it; webdataset's writer hashes nothing,
so it is measured alone and with the same digests computed from what it wrote. Nothing is synced to the disk. Rounds
alternate the order, and each writes new files: whoever is first does not find a cold cache every time.
"""

import hashlib
import statistics
import tarfile
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from webdataset.writer import ShardWriter

from lightgen.seeds import content_id
from lightgen.storage.shards import pack

BYTES = 64 << 10
ROUNDS = 8
OURS = "lightgen, with digests"


@dataclass(frozen=True)
class WriterRate:
    """One writer: its median rate, and by how much ours is faster in each round: least, median, most."""

    name: str
    rows_per_s: float
    ratios: tuple[float, float, float]


def tar_rates(rows: int, rounds: int = ROUNDS) -> list[WriterRate]:
    """Samples of 64 KiB and a small JSON a second; ours first."""
    data = np.random.default_rng(0).bytes(BYTES)
    keys = [content_id("bench", row) for row in range(rows)]
    writers: dict[str, Callable[[Path], None]] = {
        OURS: lambda path: _ours(path, keys, data),
        "webdataset ShardWriter": lambda path: _theirs(path, keys, data),
        "webdataset ShardWriter, then the same digests": lambda path: _theirs_with_digests(path, keys, data),
    }
    seconds = _measure(writers, rounds)
    return [
        WriterRate(name, rows / statistics.median(took), _spread(took, seconds[OURS])) for name, took in seconds.items()
    ]


def _measure(writers: dict[str, Callable[[Path], None]], rounds: int) -> dict[str, list[float]]:
    """Seconds by writer and round; a first round for warming up does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in writers}
    for turn in range(rounds + 1):
        names = list(writers) if turn % 2 else list(reversed(writers))
        for name in names:
            with tempfile.TemporaryDirectory() as folder:
                began = time.perf_counter()
                writers[name](Path(folder) / "shard-000000.tar")
                took = time.perf_counter() - began
            if turn:
                seconds[name].append(took)
    return seconds


def _spread(theirs: list[float], ours: list[float]) -> tuple[float, float, float]:
    ratios = [their / our for their, our in zip(theirs, ours, strict=True)]
    return min(ratios), statistics.median(ratios), max(ratios)


def _ours(path: Path, keys: list[str], data: bytes) -> None:
    with path.open("wb") as file:
        file.writelines(pack(keys, [{"bin": data, "json": b'{"n": 1}'}] * len(keys), "bench").chunks)


def _theirs(path: Path, keys: list[str], data: bytes) -> None:
    pattern = str(path.with_name("shard-%06d.tar"))
    with ShardWriter(pattern, maxcount=10**9, maxsize=1e12, verbose=0) as sink:
        for key in keys:
            sink.write({"__key__": key, "bin": data, "json": b'{"n": 1}'})


def _theirs_with_digests(path: Path, keys: list[str], data: bytes) -> None:
    _theirs(path, keys, data)
    written = memoryview(path.read_bytes())
    hashlib.sha256(written).hexdigest()
    with tarfile.open(path) as tar:
        for member in tar:
            hashlib.sha256(written[member.offset_data : member.offset_data + member.size]).digest()
