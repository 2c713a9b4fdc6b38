"""Garbage collection: what no log entry, tag or younger work needs goes, after a time of grace.

Roots are the versions that are published and not retired, those with a tag, and whatever is young: a version that
somebody works on writes files, among them its claims. Roots keep their ancestors. See docs/storage.md.

Holds a line for each file of the store: about 0.5 kB, for five or six files a shard.
"""

import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from lightgen.errors import RefNotFound
from lightgen.storage.documents import parse_document
from lightgen.storage.files import Upload
from lightgen.storage.refs import append, retired, tags
from lightgen.storage.reuse import withdraw
from lightgen.storage.store import KINDS, VERSION_NAME, Store
from schemas.canonical import canonical_json
from schemas.documents import Manifest, Plan

GRACE_DAYS = 14.0  # longer than the longest run: nothing younger is ever touched
UPLOAD_DAYS = 1.0  # an upload lasts minutes
# A sealed version keeps these folders whole; in all others of its folders only what its receipts name.
KEPT_FOLDERS = ("done", "provenance")
STRAY = "no receipt names it"
Name = tuple[str, str]


@dataclass(frozen=True)
class Garbage:
    """One file that nothing needs."""

    key: str
    bytes: int
    why: str

    @property
    def version(self) -> Name:
        """Kind and version whose folder holds it."""
        _, kind, version, *_ = self.key.split("/")
        return kind, version


@dataclass(frozen=True)
class Collection:
    """What was deleted, the tombstones that list it, and the versions that were needed again in the last moment."""

    deleted: list[Garbage] = field(default_factory=list)
    tombstones: list[str] = field(default_factory=list)
    spared: list[Name] = field(default_factory=list)


@dataclass(frozen=True)
class _File:
    key: str
    bytes: int
    modified: float


@dataclass(frozen=True)
class _Found:
    """The folder of a version; `strays` are files of a sealed one that nothing in it names."""

    files: list[_File]
    sealed: bool
    strays: list[_File]


def find_garbage(store: Store, grace_days: float = GRACE_DAYS, now: float | None = None) -> list[Garbage]:
    """Files that `collect` would delete. Raises StoreCorrupt: a damaged store is not collected."""
    oldest = _oldest(grace_days, now)
    found = {name: _look(store, name, files) for name, files in _all_files(store).items()}
    young = {name for name, one in found.items() if _is_young(one.files, oldest)}
    needed = _with_ancestors(store, _named(store) | young)
    garbage = []
    for name, one in found.items():
        if name in needed:
            garbage += [Garbage(file.key, file.bytes, STRAY) for file in one.strays if file.modified < oldest]
        else:
            why = "retired" if one.sealed else "never finished"
            garbage += [Garbage(file.key, file.bytes, why) for file in one.files]
    return garbage


def collect(
    store: Store, garbage: list[Garbage], grace_days: float = GRACE_DAYS, now: float | None = None
) -> Collection:
    """Delete `garbage`, a version at a time, children before what they were made from.

    Each version is looked at again just before it goes. Where somebody works on it, has named it or builds upon it
    since, it is spared, and so is all that it was made from. Each that goes has its tombstone first.
    """
    oldest, known = _oldest(grace_days, now), _versions(store)
    still = {one.key for one in find_garbage(store, grace_days, now)}
    groups: dict[Name, list[Garbage]] = {}
    for one in garbage:
        groups.setdefault(one.version, []).append(one)
    lines = {name: _with_ancestors(store, {name}) for name in groups}
    protected, result = set[Name](), Collection()
    # An ancestor has fewer ancestors.
    for name in sorted(groups, key=lambda name: -len(lines[name])):
        born = _versions(store) - known
        known |= born
        protected |= _with_ancestors(store, born)
        if name in protected or not _is_still_garbage(store, name, groups[name], still, oldest):
            protected |= lines[name]
            result.spared.append(name)
            continue
        result.tombstones.append(_delete(store, name, groups[name]))
        result.deleted.extend(groups[name])
    return result


def stale_uploads(store: Store, grace_days: float = GRACE_DAYS, now: float | None = None) -> list[Upload]:
    """Multipart uploads that a killed writer left on S3: billed, and part of no version. Older than a day, at most."""
    oldest = _oldest(min(grace_days, UPLOAD_DAYS), now)
    return [upload for upload in store.files.uploads() if upload.began < oldest]


def _is_still_garbage(store: Store, name: Name, garbage: list[Garbage], still: set[str], oldest: float) -> bool:
    if any(one.key not in still for one in garbage):
        return False
    # Files that no receipt names lie in a version that is needed, and young.
    if garbage[0].why == STRAY:
        return True
    return not _is_young(_files(store, name), oldest) and name not in _named(store, [name[0]])


def _delete(store: Store, name: Name, garbage: list[Garbage]) -> str:
    """The key of the tombstone, which is written first."""
    at = datetime.now(UTC)
    tombstone = f"gc/{at:%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:8]}.json"
    listed = {"format": 1, "at": at.isoformat(timespec="seconds"), "deleted": [vars(one) for one in garbage]}
    store.files.create(tombstone, [canonical_json(listed)])
    manifest = _manifest(store, name)
    if manifest and garbage[0].why != STRAY:
        append(store.files, manifest, "collect")
        withdraw(store, manifest.kind, manifest.version)
    for one in garbage:
        store.files.delete(one.key)
    return tombstone


def _is_young(files: Iterable[_File], oldest: float) -> bool:
    return any(file.modified >= oldest for file in files)


def _oldest(grace_days: float, now: float | None) -> float:
    return (time.time() if now is None else now) - grace_days * 86_400


def _look(store: Store, name: Name, files: list[_File]) -> _Found:
    manifest, base = _manifest(store, name), _base(name)
    if manifest is None:
        return _Found(files, False, [])
    kept = {f"{base}/{entry.path}" for receipt in manifest.shards for entry in receipt.files}
    folders = [file.key.removeprefix(f"{base}/").split("/")[:-1] for file in files]
    strays = [
        file
        for file, above in zip(files, folders, strict=True)
        if above and above[0] not in KEPT_FOLDERS and file.key not in kept
    ]
    return _Found(files, True, strays)


def _all_files(store: Store) -> dict[Name, list[_File]]:
    """By version, in the order in which they go."""
    found: dict[Name, list[_File]] = {}
    for path, (size, modified) in store.files.walk("v").items():
        kind, _, rest = path.partition("/")
        version, _, below = rest.partition("/")
        if kind in KINDS and VERSION_NAME.match(version) and below:
            found.setdefault((kind, version), []).append(_File(f"v/{path}", size, modified))
    return {name: _in_order(name, files) for name, files in sorted(found.items())}


def _files(store: Store, name: Name) -> list[_File]:
    walked = store.files.walk(_base(name)).items()
    return [_File(f"{_base(name)}/{path}", size, modified) for path, (size, modified) in walked]


def _in_order(name: Name, files: list[_File]) -> list[_File]:
    """The manifest first, then receipts, then all else, and the plan last: half deleted, it counts as unfinished."""
    base = _base(name)
    ranks = {f"{base}/manifest.json": 0, f"{base}/plan.json": 3}
    return sorted(
        files, key=lambda file: (ranks.get(file.key, 1 if file.key.startswith(f"{base}/done/") else 2), file.key)
    )


def _base(name: Name) -> str:
    return f"v/{name[0]}/{name[1]}"


def _versions(store: Store) -> set[Name]:
    return {(kind, version) for kind in KINDS for version in store.versions(kind)}


def _named(store: Store, kinds: Iterable[str] = KINDS) -> set[Name]:
    """Versions that a log names: published and not retired, or tagged."""
    named = set()
    for kind in kinds:
        entries = store.log(kind)
        published = {entry.version for entry in entries if entry.op == "publish"}
        named |= {(kind, version) for version in (published - retired(entries)) | set(tags(entries).values())}
    return named


def _with_ancestors(store: Store, roots: set[Name]) -> set[Name]:
    needed: set[Name] = set()
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            waiting += _parents(store, name)
    return needed


def _parents(store: Store, name: Name) -> list[Name]:
    """The versions that stood for the parents; of an unfinished version every one of its parents' content."""
    if manifest := _manifest(store, name):
        return sorted({(source.kind, source.version) for receipt in manifest.shards for source in receipt.parents})
    where = f"{_base(name)}/plan.json"
    try:
        plan = parse_document(Plan, store.files.read(where), where)
    except FileNotFoundError:
        return []
    wanted = {(parent.kind, parent.content) for parent in plan.parents}
    entries = [entry for kind, _ in wanted for entry in store.log(kind)]
    return sorted({(entry.kind, entry.version) for entry in entries if (entry.kind, entry.content) in wanted})


def _manifest(store: Store, name: Name) -> Manifest | None:
    try:
        return store.manifest(*name)
    except RefNotFound:
        return None
