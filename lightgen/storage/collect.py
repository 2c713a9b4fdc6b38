"""Garbage collection: what no log entry, tag or younger work needs goes, after a time of grace.

Roots are the versions that are published and not retired, those with a tag, and the parents of whatever is unfinished
but young. Roots keep their ancestors. See docs/storage.md.
"""

import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from lightgen.errors import RefNotFound, StoreCorrupt
from lightgen.storage.documents import parse_document
from lightgen.storage.store import KINDS, Store
from schemas.canonical import canonical_json
from schemas.documents import Manifest, Plan

GRACE_DAYS = 14.0  # longer than the longest run: nothing younger is ever touched
# Deletion goes through the folders in this order, so that a half-deleted version is an unfinished one.
FOLDERS = ("", "done", "data", "index", "digests", "rejects", "files", "provenance")
Name = tuple[str, str]


@dataclass(frozen=True)
class Garbage:
    """One file that nothing needs."""

    key: str
    bytes: int
    why: str


@dataclass(frozen=True)
class _File:
    key: str
    bytes: int
    modified: float


def find_garbage(store: Store, grace_days: float = GRACE_DAYS, now: float | None = None) -> list[Garbage]:
    """Files that `collect` would delete, in its order. Raises StoreCorrupt: a damaged store is not collected."""
    oldest = (time.time() if now is None else now) - grace_days * 86_400
    files = {(kind, version): list(_files(store, kind, version)) for kind in KINDS for version in store.versions(kind)}
    manifests = {name: manifest for name in files if (manifest := _manifest(store, name))}
    young = {name for name, found in files.items() if any(file.modified >= oldest for file in found)}
    needed = _with_ancestors(store, _named(store) | young, manifests)
    return [garbage for name, found in files.items() for garbage in _of_version(name, found, manifests, needed, oldest)]


def collect(store: Store, garbage: list[Garbage]) -> str | None:
    """Delete `garbage`; the key of the tombstone that lists it, written first, or None where there is none."""
    if not garbage:
        return None
    at = datetime.now(UTC)
    tombstone = f"gc/{at:%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:8]}.json"
    listed = {"format": 1, "at": at.isoformat(timespec="seconds"), "deleted": [vars(one) for one in garbage]}
    store.files.create(tombstone, [canonical_json(listed)])
    for one in garbage:
        store.files.delete(one.key)
    return tombstone


def collected_keys(store: Store) -> set[str]:
    """Every key that a tombstone lists. Raises StoreCorrupt for a tombstone that cannot be read."""
    keys = [f"gc/{name}" for name in store.files.names("gc")]
    try:
        return {one["key"] for data in store.files.read_many(keys) for one in json.loads(data)["deleted"]}
    except (ValueError, KeyError, TypeError) as error:
        raise StoreCorrupt(f"gc: a tombstone cannot be read ({error})") from None


def _of_version(
    name: Name, found: list[_File], manifests: dict[Name, Manifest], needed: set[Name], oldest: float
) -> Iterator[Garbage]:
    base = f"v/{name[0]}/{name[1]}"
    if name not in needed:
        why = "retired" if name in manifests else "never finished"
        yield from (Garbage(file.key, file.bytes, why) for file in found)
    elif name in manifests:
        kept = {f"{base}/{entry.path}" for receipt in manifests[name].shards for entry in receipt.files}
        for file in found:
            is_stray = file.key.count("/") > 3 and "/done/" not in file.key and file.key not in kept
            if is_stray and file.modified < oldest:
                yield Garbage(file.key, file.bytes, "no receipt names it")


def _files(store: Store, kind: str, version: str) -> Iterator[_File]:
    """Files of a version: manifest, receipts, data, and the plan at last."""
    base = f"v/{kind}/{version}"
    found = [
        _File(f"{folder}/{name}", size, modified)
        for folder in (f"{base}/{each}".rstrip("/") for each in FOLDERS)
        for name, (size, modified) in store.files.listing(folder).items()
    ]
    yield from sorted(found, key=lambda file: file.key.endswith("/plan.json"))


def _named(store: Store) -> set[Name]:
    """Versions that a log names: published and not retired, or tagged."""
    named = set()
    for kind in KINDS:
        state: dict[str, str] = {}
        tags: dict[str, str] = {}
        for entry in store.log(kind):
            if entry.op == "tag":
                tags[entry.tag] = entry.version
            else:
                state[entry.version] = entry.op
        named |= {(kind, version) for version, op in state.items() if op == "publish"}
        named |= {(kind, version) for version in tags.values()}
    return named


def _with_ancestors(store: Store, roots: set[Name], manifests: dict[Name, Manifest]) -> set[Name]:
    needed: set[Name] = set()
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name in needed:
            continue
        needed.add(name)
        waiting += _made_of(store, name, manifests.get(name), manifests)
    return needed


def _made_of(store: Store, name: Name, manifest: Manifest | None, manifests: dict[Name, Manifest]) -> set[Name]:
    """The versions that stood for the parents; of an unfinished version every one of its parents' content."""
    if manifest is not None:
        return {(source.kind, source.version) for receipt in manifest.shards for source in receipt.parents}
    plan = _plan(store, name)
    wanted = {(parent.kind, parent.content) for parent in plan.parents} if plan else set()
    return {other for other, found in manifests.items() if (found.kind, found.content) in wanted}


def _manifest(store: Store, name: Name) -> Manifest | None:
    try:
        return store.manifest(*name)
    except RefNotFound:
        return None


def _plan(store: Store, name: Name) -> Plan | None:
    where = f"v/{name[0]}/{name[1]}/plan.json"
    try:
        return parse_document(Plan, store.files.read(where), where)
    except FileNotFoundError:
        return None
