"""How fast pictures are fetched, beside img2dataset and a plain pool of threads in the same run.

All of them ask one server on this machine, in a process of its own, decode every picture and write tar shards of the
files as received; none resizes or encodes. Rounds alternate the order, and each works in a new process and folder.
Seconds are those of the fetching alone: imports and the start of worker processes do not count. Of img2dataset, whose
workers are processes of their own, seconds are from the first begin to the last end that it writes down itself, and the
processor time of a run of few links, which is that of starting, is taken off. Ours also keeps a journal, looks into
robots.txt, hashes every row and syncs to the disk.
"""

import asyncio
import json
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lightgen.errors import ConfigError
from lightgen.storage.pixels import encode_image

OURS, PLAIN, OTHER = "lightgen", "threads, urllib, PIL and tarfile", "img2dataset"
PICTURES, FEW, ROUNDS = 64, 64, 5


@dataclass(frozen=True)
class FetchRate:
    """One way: medians over rounds, and by how much ours is faster in each round: least, median, most."""

    name: str
    images_per_s: float
    cpu_ms: float
    faster: tuple[float, float, float]
    cheaper: tuple[float, float, float]


@dataclass(frozen=True)
class Took:
    """One round of one way."""

    seconds: float
    cpu_s: float


class Photos(asyncio.Protocol):
    """Serves pictures and nothing else, with as little work as can be: the clients are what is measured."""

    def __init__(self, side_px: int, latency_s: float) -> None:
        self.side_px, self.latency_s, self.unread = side_px, latency_s, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """One request after the other; `/<number>.jpg` is a picture."""
        self.unread += data
        while b"\r\n\r\n" in self.unread:
            head, _, self.unread = self.unread.partition(b"\r\n\r\n")
            asyncio.get_running_loop().call_later(self.latency_s, self._answer, head)

    def _answer(self, head: bytes) -> None:
        if not self.transport.is_closing():
            name = head.split(b" ", 2)[1].strip(b"/").removesuffix(b".jpg")
            body = photo(int(name) % PICTURES, self.side_px) if name.isdigit() else b""
            status = b"200 OK" if body else b"404 Not Found"
            length = b"Content-Type: image/jpeg\r\nContent-Length: %d" % len(body)
            self.transport.writelines([b"HTTP/1.1 ", status, b"\r\n", length, b"\r\n\r\n", body])
            if b"connection: close" in head.lower():
                self.transport.close()


@lru_cache(PICTURES)
def photo(number: int, side_px: int) -> bytes:
    """Slopes with noise: as many bytes a pixel as photographs have."""
    random, (y, x) = np.random.default_rng(number), np.mgrid[0:side_px, 0:side_px]
    slopes = np.stack([x + number, y - number, x + y], -1) * 255 / (2 * side_px)
    return encode_image((slopes + random.normal(0, 8, slopes.shape)).clip(0, 255).astype(np.uint8), "jpg", 85)


@dataclass(frozen=True)
class Setting:
    """What is fetched: links to pictures of one size from a server that waits before it answers, so many at once."""

    rows: int
    side_px: int = 512
    latency_s: float = 0.0
    in_flight: int = 64


def bench_fetch(setting: Setting, img2dataset: str | None, rounds: int = ROUNDS) -> list[FetchRate]:
    """Images a second and processor time an image; ours first. `img2dataset` is a Python that has it."""
    pythons = {OURS: sys.executable, PLAIN: sys.executable, **({OTHER: img2dataset} if img2dataset else {})}
    took: dict[str, list[Took]] = {name: [] for name in pythons}
    few = replace(setting, rows=FEW)
    with _server(setting) as address:
        starting = {name: _round(name, python, few, address).cpu_s for name, python in pythons.items()}
        for turn in range(rounds):
            for name in list(pythons) if turn % 2 else list(reversed(pythons)):
                one = _round(name, pythons[name], setting, address)
                off = starting[name] if name == OTHER else 0.0
                took[name].append(Took(one.seconds, max(0.0, one.cpu_s - off)))
    return [_rate(name, each, took[OURS], setting.rows) for name, each in took.items()]


def _rate(name: str, took: Sequence[Took], ours: Sequence[Took], rows: int) -> FetchRate:
    seconds = [their.seconds / our.seconds for their, our in zip(took, ours, strict=True)]
    cpu = [their.cpu_s / our.cpu_s for their, our in zip(took, ours, strict=True)]
    return FetchRate(
        name,
        rows / statistics.median(one.seconds for one in took),
        1000 * statistics.median(one.cpu_s for one in took) / rows,
        (min(seconds), statistics.median(seconds), max(seconds)),
        (min(cpu), statistics.median(cpu), max(cpu)),
    )


def _round(name: str, python: str, setting: Setting, address: str) -> Took:
    """One way in a process of its own. Raises ConfigError where it does not bring all pictures."""
    file = "img2dataset_child.py" if name == OTHER else "fetch_child.py"
    with tempfile.TemporaryDirectory() as folder:
        table = str(_table(Path(folder), address, setting.rows))
        command = [python, str(Path(__file__).with_name(file)), name, table, address, folder, str(setting.in_flight)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        raise ConfigError(f"{name} failed in {python}: {done.stderr[-2000:]}")
    found = json.loads(lines[-1])
    if found["images"] != setting.rows:
        raise ConfigError(f"{name} brought {found['images']} of {setting.rows} pictures: {done.stderr[-2000:]}")
    return Took(found["seconds"], found["cpu_s"])


def _table(folder: Path, address: str, rows: int) -> Path:
    path = folder / f"{rows}.parquet"
    urls = [f"http://{address}/{row}.jpg" for row in range(rows)]
    pq.write_table(pa.table({"URL": urls, "TEXT": [f"picture number {row}" for row in range(rows)]}), path)
    return path


@contextmanager
def _server(setting: Setting) -> Iterator[str]:
    """A server in a process of its own, its pictures drawn before the first is asked for."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_serve, args=(theirs, setting), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        process.kill()
        process.join()


def _serve(told: Connection, setting: Setting) -> None:
    for number in range(PICTURES):
        photo(number, setting.side_px)
    asyncio.run(_forever(told, setting))


async def _forever(told: Connection, setting: Setting) -> None:
    server = await asyncio.get_running_loop().create_server(
        lambda: Photos(setting.side_px, setting.latency_s), "127.0.0.1", 0, backlog=4096
    )
    told.send("{}:{}".format(*server.sockets[0].getsockname()))
    await server.serve_forever()
