"""LINKS of any addresses, and how they are fetched in tests; imported by path."""

from urllib.parse import urlsplit

import pyarrow as pa

from lightgen.seeds import content_id
from lightgen.stages.fetch import FetchConfig
from lightgen.storage.shards import ShardOutput
from schemas import links as links_schema
from tests.lightgen.sealed import seal


def host_of(url):
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def link(url, caption="", **facts):
    """A row of LINKS; what is not given is null."""
    row = dict.fromkeys(links_schema.SCHEMA.names)
    caption = caption or f"a caption of {url[:200]}"
    named = {
        "id": content_id("link", url, caption), "caption_id": content_id("caption", caption), "url": url,
        "caption": caption, "host": host_of(url), "source": "test",
        "licence": "none",
    }  # fmt: skip
    return {**row, **named, **facts}


def sealed_links(store, rows, shard_rows=1000):
    """A version of these rows, or of addresses."""
    rows = [link(row) if isinstance(row, str) else row for row in rows]
    parts = [rows[at : at + shard_rows] for at in range(0, len(rows), shard_rows)]
    tables = [pa.Table.from_pylist(part, schema=links_schema.SCHEMA) for part in parts]
    return seal(store, "links", [ShardOutput(one, one.num_rows, links_schema.SCHEMA) for one in tables])


def fetching(server, **changes):
    """Quick and of small pictures, from one server."""
    given = {
        "snapshot": "2026-11-28", "allow_private": (server.address,), "per_host": 16, "timeout_s": 60.0,
        "min_side_px": 24, "max_bytes": 2 << 20, "max_reject_fraction": 1.0, "journal": 8,
    }  # fmt: skip
    return FetchConfig(**{**given, **changes})


def reasons(store, ref):
    """Reason of every rejected address; None for those with a picture."""
    import json

    version = store.open(ref)
    found = dict.fromkeys(version.table()["url"].to_pylist())
    return found | {json.loads(row["row"])["url"]: row["reason"] for row in version.rejects().to_pylist()}
