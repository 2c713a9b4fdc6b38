"""Which rows of a version a page shows: the same prompts on the page of every stage, so that a row can be followed.

A page takes some shards at equal distances, and of each the rows whose prompts come first by a hash. Stages that keep
the shards of their parents thus show the same prompts, as far as they are still there. Nothing is read of other shards.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import pyarrow as pa

from lightgen.storage.inspect import declared_schema
from lightgen.storage.store import Store
from lightgen.storage.version import Version

Row = dict[str, Any]
SIDES = ("winner", "loser")
SHARDS = 24  # of a version that a page reads, at most
KEYS = ("prompt_id", "caption_id", "id")  # what says which prompt a row belongs to: the first that there is


def shown_rows(version: Version, limit: int) -> dict[int, list[int]]:
    """Up to `limit` rows as places by shard."""
    counts = [receipt.rows_out for receipt in version.manifest.shards]
    shards = [shard for shard in _spread(len(counts)) if counts[shard]]
    names = declared_schema(version).names
    key = next((name for name in KEYS if name in names), names[0])
    found, left = {}, limit
    for number, shard in enumerate(shards):
        share = -(-left // (len(shards) - number))
        table = version.table(shard, columns=list(dict.fromkeys([key, names[0]])))
        found[shard] = _first_by_hash(table[key].to_pylist(), table[names[0]].to_pylist())[:share]
        left -= len(found[shard])
    return {shard: places for shard, places in found.items() if places}


def _spread(shards: int) -> list[int]:
    """Shards at equal distances."""
    count = min(shards, SHARDS)
    return [number * shards // count for number in range(count)]


def _first_by_hash(prompts: list[Any], ids: list[Any]) -> list[int]:
    """Places of rows by the hash of their prompts, one row of each prompt before a second of any."""
    of_prompt: dict[Any, list[int]] = defaultdict(list)
    for place in sorted(range(len(ids)), key=lambda place: _hash(ids[place])):
        of_prompt[prompts[place]].append(place)
    turn = {place: number for places in of_prompt.values() for number, place in enumerate(places)}
    return sorted(turn, key=lambda place: (turn[place], _hash(prompts[place])))


def _hash(value: object) -> bytes:
    return hashlib.blake2b(str(value).encode(), digest_size=8).digest()


def shown_table(version: Version, limit: int) -> pa.Table:
    """Those rows with all columns."""
    parts = [version.table(shard).take(places) for shard, places in shown_rows(version, limit).items()]
    return pa.concat_tables(parts or [version.table(0)])


def filled(columns: Sequence[str], shown: Sequence[Row]) -> list[str]:
    """The columns in which a row that is shown has something to read: no vectors, and none that are empty in all."""
    return [name for name in columns if any(_readable(row[name]) for row in shown)]


def _readable(value: object) -> bool:
    return value not in (None, "") and not isinstance(value, bytes)


def first_rows(version: Version, limit: int) -> list[Row]:
    """Up to `limit` rows from the first shards, for kinds whose rows belong to no prompt."""
    rows: list[Row] = []
    for shard in range(version.n_shards):
        rows += version.table(shard).slice(0, limit - len(rows)).to_pylist()
        if len(rows) >= limit:
            break
    return rows


def with_files(images: Version, shard: int, rows: list[Row]) -> Iterator[tuple[Row, bytes]]:
    """Rows of IMAGES with the bytes of their images."""
    members = images.members_of(shard, [row["id"] for row in rows])
    return ((row, members[row["id"]][row["format"]]) for row in rows)


def drawn(version: Version, limit: int) -> Iterator[tuple[Row, bytes]]:
    """Rows of IMAGES, with their bytes."""
    for shard, places in shown_rows(version, limit).items():
        yield from with_files(version, shard, version.table(shard).take(places).to_pylist())


def kept(version: Version, store: Store, limit: int) -> Iterator[tuple[Row, bytes]]:
    """Rows of the images that KEPT names, with their bytes: shard i holds those of image shard i."""
    images = store.open(version.parent("images"))
    for shard, places in shown_rows(version, limit).items():
        ids = version.table(shard, columns=["id"]).take(places)["id"].to_pylist()
        rows = {row["id"]: row for row in images.table(shard).to_pylist()}
        yield from with_files(images, shard, [rows[id] for id in ids])


def pairs(version: Version, store: Store, limit: int) -> Iterator[tuple[Row, bytes, bytes]]:
    """Rows of PAIRS, with the bytes of winner and loser."""
    images = [store.open(ref) for ref in version.parents if ref.kind == "images"]
    for shard, places in shown_rows(version, limit).items():
        rows = version.table(shard).take(places).to_pylist()
        wanted = {row[f"{side}_id"] for row in rows for side in SIDES}
        found: dict[str, bytes] = {}
        for one in images:
            there = [row for row in one.table(shard).to_pylist() if row["id"] in wanted]
            found |= {row["id"]: data for row, data in with_files(one, shard, there)}
        yield from ((row, found[row["winner_id"]], found[row["loser_id"]]) for row in rows)


def images_of(images: Version, ids: Collection[str]) -> dict[str, bytes]:
    """The bytes of some images, wherever they lie: ids are read shard by shard until all are found."""
    found: dict[str, bytes] = {}
    for shard in range(images.n_shards):
        there = set(images.table(shard, columns=["id"])["id"].to_pylist()) & set(ids)
        if there:
            rows = [row for row in images.table(shard).to_pylist() if row["id"] in there]
            found |= {row["id"]: data for row, data in with_files(images, shard, rows)}
        if len(found) == len(set(ids)):
            break
    return found


def rejected(version: Version, limit: int) -> list[Row]:
    """Refused rows, as many of each reason as there is room for; reading ends when there are enough."""
    reasons = version.reject_reasons
    each = max(1, limit // max(1, len(reasons)))
    wanted = {reason: min(each, count) for reason, count in reasons.items()}
    found: list[Row] = []
    for shard in range(version.n_shards):
        if not any(wanted.values()):
            break
        for row in version.rejects(shard).to_pylist():
            if wanted.get(row["reason"], 0):
                wanted[row["reason"]] -= 1
                given = json.loads(row["row"])
                found.append({**row, "caption": given.get("caption", ""), "url": given.get("url", "")})
    return sorted(found, key=lambda row: row["reason"])
