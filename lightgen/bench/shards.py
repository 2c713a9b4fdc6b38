"""How fast tar shards are written, beside webdataset's own writer in the same run."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from webdataset.writer import ShardWriter

from lightgen.seeds import content_id
from lightgen.storage.shards import pack

BYTES = 64 << 10


def tar_rates(rows: int) -> dict[str, float]:
    """Samples of 64 KiB and a small JSON a second, written to disk without fsync; ours first."""
    data = np.random.default_rng(0).bytes(BYTES)
    keys = [content_id("bench", row) for row in range(rows)]
    with tempfile.TemporaryDirectory() as folder:
        return {
            "lightgen": rows / _seconds(lambda: _ours(Path(folder) / "ours.tar", keys, data)),
            "webdataset ShardWriter": rows / _seconds(lambda: _theirs(Path(folder) / "theirs-%06d.tar", keys, data)),
        }


def _ours(path: Path, keys: list[str], data: bytes) -> None:
    with path.open("wb") as file:
        file.writelines(pack(keys, [{"bin": data, "json": b'{"n": 1}'}] * len(keys), "bench").chunks)


def _theirs(pattern: Path, keys: list[str], data: bytes) -> None:
    with ShardWriter(str(pattern), maxcount=10**9, maxsize=1e12, verbose=0) as sink:
        for key in keys:
            sink.write({"__key__": key, "bin": data, "json": b'{"n": 1}'})


def _seconds(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
