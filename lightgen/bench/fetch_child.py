"""One round of `lightgen bench fetch` in a process of its own: prints pictures, seconds and processor seconds."""

import io
import json
import resource
import sys
import tarfile
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow.parquet as pq
from PIL import Image

from lightgen.bench.fetch import OURS
from lightgen.corpora.laion import LaionLinks
from lightgen.stages.fetch import FetchConfig, fetch
from lightgen.stages.links import LinksConfig, links
from lightgen.storage.store import open_or_create
from lightgen.work import Context


def ours(table: str, address: str, folder: Path, threads: int) -> Callable[[], int]:
    """Stage `fetch` over links that are sealed already."""
    context = Context(open_or_create(str(folder / "store")))
    allowed = (address,)
    found = links(LinksConfig(corpora=[LaionLinks(path=table)], allow_private=allowed), context)
    config = FetchConfig(snapshot="2026-11-28", allow_private=allowed, per_host=threads, concurrency=threads)
    return lambda: fetch(found, config, context).rows


def plain(table: str, folder: Path, threads: int) -> Callable[[], int]:
    """What anybody would write first."""
    rows = pq.read_table(table).to_pylist()

    def one(row: dict[str, str]) -> tuple[str, bytes]:
        with urllib.request.urlopen(row["URL"], timeout=20) as answer:
            data = answer.read()
        with Image.open(io.BytesIO(data)) as image:
            image.load()
        return row["TEXT"], data

    def run() -> int:
        with ThreadPoolExecutor(threads) as pool, tarfile.open(folder / "00000.tar", "w") as tar:
            for number, (text, data) in enumerate(pool.map(one, rows)):
                for name, content in ((f"{number:06d}.jpg", data), (f"{number:06d}.txt", text.encode())):
                    member = tarfile.TarInfo(name)
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
        return len(rows)

    return run


def main(name: str, table: str, address: str, folder: str, threads: str) -> None:
    """Prints one line of JSON."""
    count = int(threads)
    run = ours(table, address, Path(folder), count) if name == OURS else plain(table, Path(folder), count)
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    images = run()
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    sys.stdout.write(json.dumps({"images": images, "seconds": seconds, "cpu_s": cpu_s}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
