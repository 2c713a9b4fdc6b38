"""Eviction: image files that can be drawn again go; rows, digests, receipts and manifest stay.

Only images that a checkpoint drew are evicted: each evaluation and each round of pairs adds some, and whoever holds the
checkpoint can draw them again. Names, parents and scores that are sealed need no pixel. A version without its files
holds `evicted.json`, a tombstone.
"""

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from lightgen.errors import StoreConflict, StoreError
from lightgen.storage.collect import GRACE_DAYS
from lightgen.storage.documents import parse_document
from lightgen.storage.refs import retired, tags
from lightgen.storage.reuse import LentShard, withdraw
from lightgen.storage.shards import ShardOutput, check_keys, pack
from lightgen.storage.store import Store
from lightgen.storage.version import EVICTED, Version
from schemas.canonical import canonical_json
from schemas.documents import FileEntry, Plan

KIND = "images"


@dataclass(frozen=True)
class Evictable:
    """A version whose image files may go: `bytes` in `files`."""

    version: Version
    files: Sequence[FileEntry]

    @property
    def bytes(self) -> int:
        """What is won."""
        return sum(entry.bytes for entry in self.files)


def find_evictable(store: Store, grace_days: float = GRACE_DAYS, now: float | None = None) -> list[Evictable]:
    """Published images that a checkpoint drew, without a tag, and older than the grace; not yet evicted, oldest first.

    Images from which something unfinished is made stay: whoever makes it reads them. Raises StoreCorrupt.
    """
    oldest = (time.time() if now is None else now) - grace_days * 86_400
    log = store.log(KIND)
    tagged = set(tags(log).values())
    published = dict.fromkeys(entry.version for entry in log if entry.op == "publish")
    spared = tagged | retired(log) | _read_by_unfinished(store)
    found = []
    for name in published:
        if name not in spared and "manifest.json" in store.files.names(f"v/{KIND}/{name}"):
            version = Version(store.files, store.manifest(KIND, name))
            files = _tars(version)
            if files and _is_drawn_by_student(version) and not version.evicted and _is_old(version, oldest):
                found.append(Evictable(version, files))
    return found


def evict(store: Store, one: Evictable) -> None:
    """Delete the image files of a version. The tombstone is written first; rows are lent no more."""
    version = one.version
    at = datetime.now(UTC).isoformat(timespec="seconds")
    gone = [{"path": entry.path, "bytes": entry.bytes, "sha256": entry.sha256} for entry in one.files]
    withdraw(store, KIND, version.ref.version)
    # Where another collection was here first, this one deletes what that has not deleted yet.
    with contextlib.suppress(StoreConflict):
        store.files.create(f"{version.folder}/{EVICTED}", [canonical_json({"format": 1, "at": at, "deleted": gone})])
    for entry in one.files:
        store.files.delete(f"{version.folder}/{entry.path}")


def absent_shards(version: Version) -> list[int]:
    """Shards whose image files are not there."""
    there = set(version.files.names(f"{version.folder}/data"))
    return [
        receipt.shard
        for receipt in version.manifest.shards
        if any(entry.role == "tar" and entry.path.split("/")[-1] not in there for entry in receipt.files)
    ]


def put_back(version: Version, shard: int, output: ShardOutput | LentShard) -> None:
    """Write the image file of a shard that was drawn again. Raises StoreError where it is not the one that was here."""
    entry, key = version.entry("tar", shard), f"{version.folder}/{version.entry('tar', shard).path}"
    if isinstance(output, LentShard):
        lent = output.lender.entry("tar", output.shard)
        _check_same(version, shard, entry.sha256, lent.sha256)
        version.files.link(f"{output.lender.folder}/{lent.path}", key)
        return
    assert output.blobs is not None, "images have files"
    tar = pack(check_keys(output.table, key), output.blobs, key)
    _check_same(version, shard, entry.sha256, tar.sha256)
    version.files.create(key, tar.chunks, tar.sha256)


def seal_again(version: Version) -> None:
    """The tombstone goes: all files of the version are back."""
    assert not absent_shards(version), "every shard was put back"
    version.files.delete(f"{version.folder}/{EVICTED}")


def _check_same(version: Version, shard: int, expected: str, found: str) -> None:
    if expected != found:
        raise StoreError(
            f"{version.ref}, shard {shard}: drawn again, the images are others to the last bit, as happens on another "
            "device or with another library; its provenance (`lightgen show`) says where they were drawn. To go on "
            "with other images, give the recipe another seed"
        )


def _is_drawn_by_student(version: Version) -> bool:
    return any(parent.kind == "checkpoint" for parent in version.plan.parents)


def _tars(version: Version) -> list[FileEntry]:
    return [entry for receipt in version.manifest.shards for entry in receipt.files if entry.role == "tar"]


def _is_old(version: Version, oldest: float) -> bool:
    return all(modified < oldest for _, modified in version.files.walk(version.folder).values())


def _read_by_unfinished(store: Store) -> set[str]:
    """Versions of images that stand for a parent of a version without a manifest."""
    wanted = set()
    for kind in ("scores", "kept", "features", "pairs", "pair_features"):
        for name in store.versions(kind):
            if "manifest.json" not in store.files.names(f"v/{kind}/{name}"):
                plan = parse_document(Plan, store.files.read(f"v/{kind}/{name}/plan.json"), f"{kind}@{name}")
                wanted |= {parent.content for parent in plan.parents if parent.kind == KIND}
    return {entry.version for entry in store.log(KIND) if entry.content in wanted}
