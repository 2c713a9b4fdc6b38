"""What other fetches of the same snapshot hold: a whole shard, or pictures and final failures by address.

Failures that pass with time are not taken over: their addresses are asked again.
"""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence

from lightgen.errors import RefNotFound, StoreCorrupt
from lightgen.fetch.states import CHANGED, PASSING, Failed, Got, Made
from lightgen.seeds import content_id
from lightgen.storage.reuse import Lender, LentShard, taken
from lightgen.storage.store import Store
from lightgen.storage.version import Version

log = logging.getLogger(__name__)


def key_of(url: str) -> str:
    """What a lender is asked for."""
    return content_id(url)


def keys(version: Version, shard: int) -> list[str]:
    """Keys of the rows of a shard, then those of its final rejects."""
    rows = version.table(shard, columns=["url"])["url"].to_pylist()
    return [key_of(url) for url in (*rows, *_final(version, shard))]


def lent_shard(known: Sequence[Lender], links: Version, shard: int, store: Store) -> LentShard | None:
    """A shard of the same links of which nothing failed for a passing reason."""
    wanted = links.manifest.shards[shard].fingerprint
    for lender in known:
        if shard >= lender.version.n_shards or PASSING & set(lender.version.manifest.shards[shard].reject_reasons):
            continue
        try:
            theirs = store.open(lender.version.parent("links")).manifest.shards[shard]
        except (RefNotFound, StoreCorrupt):
            continue
        if theirs.fingerprint == wanted:
            return LentShard(lender.version, shard)
    return None


def take_over(known: Sequence[Lender], shard: int, digests: Mapping[str, str | None], whole: bool) -> dict[str, Made]:
    """Pictures and final failures of the addresses in `digests`, which says what digest a file must have.

    With `whole` files are what the servers sent.
    """
    by_key = {key_of(url): url for url in digests}
    found: dict[str, Made] = {}
    for lender, where, wanted in taken(known, shard, list(by_key)):
        there = {url: digests[url] for url in (by_key[key] for key in wanted)}
        try:
            found |= dict(_copied(lender.version, where, there, whole))
        except (RefNotFound, StoreCorrupt, FileNotFoundError) as error:
            log.warning("%s lends nothing of its shard %d: %s", lender.version.ref, where, error)
    return found


def _copied(version: Version, shard: int, digests: Mapping[str, str | None], whole: bool) -> Iterator[tuple[str, Made]]:
    rows = {row["id"]: row for row in version.table(shard).to_pylist() if row["url"] in digests}
    for id, members in version.members_of(shard, rows).items():
        row = rows[id]
        received = row["image_sha256"] if whole else ""
        data = members[row["format"]]
        yield row["url"], Got(data, row["format"], row["height"], row["width"], row["image_sha256"], received)
    pictures = {row["url"] for row in rows.values()}
    for url, (failed, digest) in _final(version, shard).items():
        # That a file is not the expected one is known of one expected file only.
        if url in digests and url not in pictures and (failed.reason != CHANGED or digest == digests[url]):
            yield url, failed


def _final(version: Version, shard: int) -> dict[str, tuple[Failed, str | None]]:
    """Failures of a shard that do not pass, by address, with the digest that its file should have."""
    rejects = [row for row in version.rejects(shard).to_pylist() if row["reason"] not in PASSING]
    links = [json.loads(row["row"]) for row in rejects]
    return {
        link["url"]: (Failed(row["reason"], row["detail"]), link["sha256"])
        for row, link in zip(rejects, links, strict=True)
    }
