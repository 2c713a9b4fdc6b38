"""Links and what is fetched of them: a table of links, and a small web on this machine under a name of its own."""

import json
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lightgen.corpora.laion import LaionLinks
from lightgen.fetch import names
from lightgen.stages import fetch, links
from lightgen.storage.pixels import decode_image
from tests.golden.compare import plain, png
from tests.golden.given import context, described
from tests.golden.subject import Output, Subject, Tolerance
from tests.lightgen.fetch.given import link, sealed_links
from tests.servers.bad_web import BadWeb

HOST = "golden.example"
GIVEN = {"path": "given"}
TABLE = {"corpora": [GIVEN]}
TABLES: dict[str, dict[str, Any]] = {
    "plain": GIVEN,
    "named": GIVEN | {"source": "other", "licence": "CC0-1.0", "caption_column": "other"},
}
LINKS: dict[str, dict[str, Any]] = {
    "plain": TABLE,
    "named": {"corpora": [TABLES["named"]]},
    "rules": TABLE | {"rules": [{"column": "aesthetic", "least": 6.5}, {"column": "width", "most": 600}]},
    "small shards": TABLE | {"shard_rows": 3, "min_characters": 6, "max_characters": 20},
    "words": TABLE | {"among": {"licence": ["cc-by-4.0", "unknown"]}},
    "allowed": TABLE | {"allow_private": ["127.0.0.1:8080"]},
}
FETCH = {"snapshot": "2026-11-28", "allow_private": [f"{HOST}:80"], "min_side_px": 8, "max_reject_fraction": 1.0}
FETCHES: dict[str, dict[str, Any]] = {
    "plain": FETCH,
    "public": FETCH | {"allow_private": []},
    "square jpg": FETCH | {"crop_px": 24, "quality": 70},
    "square png": FETCH | {"crop_px": 24, "format": "png"},
    "square webp": FETCH | {"crop_px": 24, "format": "webp"},
    "as it comes": FETCH | {"robots": False, "opt_out": ["noimageai"], "min_side_px": 64},
    "small": FETCH | {"max_bytes": 1000, "snapshot": "2026-11-29-b"},
}
PATHS = (
    "/picture/1.jpg", "/picture/2.png", "/picture/3.webp", "/missing.jpg", "/noai.jpg", "/noimageai.jpg",
    "/denied/a.jpg", "/empty.jpg", "/small.png", "/hops/2", "/loop", "/to?place=http://10.0.0.1/",
)  # fmt: skip


def subjects() -> list[Subject]:
    """The table, and both stages."""
    return [
        Subject("links laion", (LaionLinks,), LaionLinks, TABLES, _laion),
        Subject("stage links", (links,), links.LinksConfig, LINKS, _links),
        Subject("stage fetch", (fetch,), fetch.FetchConfig, FETCHES, _fetch, Tolerance(levels=3)),
    ]


def _table(folder: Path) -> str:
    columns = {
        "URL": [
            "http://A.example/1.jpg",
            "http://127.0.0.1:8080/2.jpg",
            "ftp://a.example/3",
            "http://a.example/4",
            None,
        ],
        "TEXT": ["a caf\u00c3\u00a9 &amp; more", "two", "three", "a caption of some length", "five"],
        "Other": ["o1", "other two", None, "other four", "o5"],
        "WIDTH": [512.0, float("nan"), 700.0, 640.0, 1.0],
        "AESTHETIC_SCORE": pa.array([7.0, 6.5, None, 6.75, 5.0], pa.float32()),
        "hash": [-7_000_000_000_000_000_001, 1, 2, 3, None],
        "LICENSE": ["?", "CC-BY-4.0", None, "", "x"],
    }
    pq.write_table(pa.table(columns), folder / "a.parquet", row_group_size=2)
    return str(folder / "a.parquet")


def _laion(table: LaionLinks, folder: Path) -> Output:
    """All rows, and the ranges of two rows that they are cut into."""
    [file] = table.model_copy(update={"path": _table(folder)}).files()
    cut = file.cut(2)
    rows = [row for place in cut.places() for row in file.read_range(cut, place, folder).to_pylist()]
    shown = [{name: one.decode() if isinstance(one, bytes) else one for name, one in row.items()} for row in rows]
    return {"rows": plain(shown), "ranges": [list(one) for one in cut.ranges]}


def _links(config: links.LinksConfig, folder: Path) -> Output:
    path = _table(folder)
    corpora = [one.model_copy(update={"path": path}) for one in config.corpora]
    works = context(folder)
    found = described(works.store, links.links(config.model_copy(update={"corpora": corpora}), works))
    # The digest of a file is the writer's.
    for [inventory] in found["plan"]["inputs"]["corpora"]:
        del inventory["sha256"]
    return json.loads(json.dumps(found).replace(str(folder), "FOLDER"))


async def _here(_: names.Names, host: str) -> list[str]:
    return ["127.0.0.1"]


def _fetch(config: fetch.FetchConfig, folder: Path) -> Output:
    """The web answers under a name and port that are the same everywhere."""
    works, result = context(folder), names._result
    asked = sealed_links(works.store, [link(f"http://{HOST}{path}", f"a caption of {path}") for path in PATHS], 7)
    with (
        BadWeb() as server,
        mock.patch.object(names.Names, "_system", _here),
        mock.patch.object(names, "_result", lambda host, port, address: result(host, server.port, address)),
    ):
        version = works.store.open(fetch.fetch(asked, config, works))
    drawn = {row["id"]: decode_image(version.member(row["id"], row["format"])) for row in version.table().to_pylist()}
    # The bytes of a file are the image library's.
    found = described(works.store, version.ref, drop=["image_sha256"])
    return found | {"pictures": {id: png(one) for id, one in drawn.items() if isinstance(one, np.ndarray)}}
