"""Find every damage in a store: each byte of each sealed version, its plan and receipts, and the logs."""

import hashlib
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass

from lightgen.errors import DuplicateKey, StoreError
from lightgen.storage.commit import manifest_of
from lightgen.storage.digests import row_digests
from lightgen.storage.documents import parse_document
from lightgen.storage.evict import absent_shards
from lightgen.storage.merge import checked_fingerprint
from lightgen.storage.receipts import RECEIPT, read_receipts
from lightgen.storage.refs import ENTRY, standing
from lightgen.storage.shards import key_column
from lightgen.storage.store import KINDS, Store, wrong_sizes
from lightgen.storage.tar import read_members
from lightgen.storage.version import PLAIN, Version
from schemas.documents import FileEntry, Plan, Receipt
from schemas.ref import ArtifactRef


@dataclass(frozen=True)
class Problem:
    """One damage: the file (relative to the store) and what is wrong with it."""

    file: str
    what: str

    def __str__(self) -> str:
        return f"{self.file}: {self.what}"


def verify(store: Store, ref: ArtifactRef | str | None = None) -> list[Problem]:
    """Problems of one version, or of the whole store with its logs; empty where all is well. Raises RefNotFound."""
    if ref is not None:
        kind, version = (ref.kind, ref.version) if isinstance(ref, ArtifactRef) else store.resolve(ref)
        return list(_version_problems(store, kind, version))
    problems = list(_try(f"{store.uri}/store.json", lambda: store.mark))
    for kind in KINDS:
        problems += _log_problems(store, kind)
        for version in store.versions(kind):
            if "manifest.json" in store.files.names(f"v/{kind}/{version}"):
                problems += _version_problems(store, kind, version)
            else:
                problems += _unfinished_problems(store, kind, version)
    return problems


def _try(file: str, check: Callable[[], object]) -> Iterator[Problem]:
    try:
        check()
    except (StoreError, FileNotFoundError) as error:
        yield Problem(file, "is missing" if isinstance(error, FileNotFoundError) else str(error))


def _log_problems(store: Store, kind: str) -> Iterator[Problem]:
    """The chain, and that each version that the log vouches for is sealed, with the manifest that was published."""
    folder = f"refs/{kind}"
    for name in store.files.names(folder):
        if not ENTRY.match(name):
            yield Problem(f"{folder}/{name}", "is no entry of a log")
    broken = list(_try(folder, lambda: store.log(kind)))
    yield from broken
    if broken:
        return
    for version, entries in standing(store.log(kind)).items():
        where = f"v/{kind}/{version}/manifest.json"
        try:
            found = hashlib.sha256(store.files.read(where)).hexdigest()
        except FileNotFoundError:
            yield Problem(where, f"is missing; entry {entries[-1].n} of {folder} names it")
            continue
        for entry in entries:
            if entry.manifest_sha256 != found:
                yield Problem(where, f"is not the manifest that entry {entry.n} of {folder} was made for")


def _unfinished_problems(store: Store, kind: str, version: str) -> Iterator[Problem]:
    """Of a version without manifest: its plan and receipts, and the files those name. None where it holds nothing."""
    base = f"v/{kind}/{version}"
    if not any(RECEIPT.match(name) for name in store.files.names(f"{base}/done")):
        return
    plan, problems = _plan(store, kind, version)
    yield from problems
    if plan is None:
        return
    try:
        receipts = read_receipts(store, plan)
    except StoreError as error:
        yield Problem(f"{base}/done", str(error))
        return
    yield from _provenance_problems(store, base, receipts.values())
    for entry, got in wrong_sizes(store.files, base, receipts.values()):
        yield Problem(f"{base}/{entry.path}", f"expected {entry.bytes} bytes, got {got}")


def _version_problems(store: Store, kind: str, version: str) -> Iterator[Problem]:
    base = f"v/{kind}/{version}"
    try:
        found = Version(store.files, store.manifest(kind, version))
    except StoreError as error:
        yield Problem(f"{base}/manifest.json", str(error))
        return
    yield from _plan(store, kind, version)[1]
    yield from _receipt_problems(store, found)
    yield from _provenance_problems(store, base, found.manifest.shards)
    damaged, absent = [], set(absent_shards(found)) if found.evicted else set[int]()
    for receipt in found.manifest.shards:
        there = [entry for entry in receipt.files if entry.role != "tar" or receipt.shard not in absent]
        shard_problems = [p for entry in there for p in _file_problems(found, entry)]
        yield from shard_problems
        damaged += shard_problems
    if not damaged:
        yield from _content_problems(found, absent)


def _plan(store: Store, kind: str, version: str) -> tuple[Plan | None, list[Problem]]:
    where = f"v/{kind}/{version}/plan.json"
    try:
        data = store.files.read(where)
        plan = parse_document(Plan, data, where)
    except FileNotFoundError:
        return None, [Problem(where, "is missing")]
    except StoreError as error:
        return None, [Problem(where, str(error))]
    if (plan.kind, plan.version) != (kind, version) or data != plan.canonical():
        return None, [Problem(where, f"is not the recipe of {kind}@{version}")]
    return plan, []


def _receipt_problems(store: Store, version: Version) -> Iterator[Problem]:
    """Receipts on their own, then the manifest against what the receipts give."""
    base, manifest = version.folder, version.manifest
    good = True
    for receipt in manifest.shards:
        where = f"{base}/done/{receipt.shard:05d}.json"
        try:
            data = store.files.read(where)
        except FileNotFoundError:
            good = False
            yield Problem(where, "is missing")
            continue
        if data != receipt.canonical():
            good = False
            yield Problem(where, "is not the receipt that the manifest was made from")
    receipts = {receipt.shard: receipt for receipt in manifest.shards}
    rebuilt = manifest_of(manifest.plan, receipts, manifest.fingerprint).canonical()
    if good and store.files.read(f"{base}/manifest.json") != rebuilt:
        yield Problem(f"{base}/manifest.json", "is not what its plan and receipts give")


def _provenance_problems(store: Store, base: str, receipts: Iterable[Receipt]) -> Iterator[Problem]:
    for digest in sorted({receipt.provenance for receipt in receipts}):
        where = f"{base}/provenance/{digest}.json"
        try:
            found = hashlib.sha256(store.files.read(where)).hexdigest()
        except FileNotFoundError:
            yield Problem(where, "is missing; receipts name it")
            continue
        if found != digest:
            yield Problem(where, "is not what the receipts name")


def _file_problems(version: Version, entry: FileEntry) -> Iterator[Problem]:
    where = f"{version.folder}/{entry.path}"

    def check() -> None:
        data = version.read(entry)
        if entry.role == "tar":
            members = sum(1 for _ in read_members(memoryview(data), where))
            if members != entry.rows:
                raise StoreError(f"expected {entry.rows} members, got {members}")
        elif entry.role not in PLAIN:
            version.table_of(entry)

    yield from (Problem(where, problem.what.removeprefix(f"{where}: ")) for problem in _try(where, check))


def _content_problems(version: Version, absent: Container[int]) -> Iterator[Problem]:
    """Fingerprint and digest of each row, computed again; `absent` shards have lost their image files on purpose."""
    where = f"{version.folder}/manifest.json"
    try:
        if checked_fingerprint(version) != version.manifest.fingerprint:
            yield Problem(where, "fingerprint is not that of the row digests")
    except DuplicateKey as error:
        yield Problem(where, str(error))
    for shard in (shard for shard in range(version.n_shards) if shard not in absent):
        entry = version.entry("digests", shard)
        if _digests_anew(version, shard) != version.digests(shard).to_pylist():
            yield Problem(f"{version.folder}/{entry.path}", "row digests are not those of the rows")


def _digests_anew(version: Version, shard: int) -> list[dict]:
    table = version.table(shard)
    blobs: list[dict[str, bytes]] | None = None
    if any(entry.role == "tar" for entry in version.manifest.shards[shard].files):
        members = {key: {e: hashlib.sha256(d).digest() for e, d in m.items()} for key, m in version.samples(shard)}
        blobs = [members.get(key, {}) for key in table["id"].to_pylist()]
    digests = row_digests(table, blobs)
    column = key_column(table.schema)
    keys = table[column].to_pylist() if column else [digest.hex() for digest in digests]
    return [{"key": key, "digest": digest} for digest, key in sorted(zip(digests, keys, strict=True))]
