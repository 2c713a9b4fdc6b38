"""Looking into a store: what there is, what it was made of, whether it is whole, how two versions differ."""

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pyarrow as pa

from lightgen.errors import RefNotFound, StoreCorrupt
from lightgen.storage.documents import parse_document
from lightgen.storage.parquet import schema_digest, schema_of_tail
from lightgen.storage.refs import retired, standing, tags
from lightgen.storage.store import KINDS, Store
from lightgen.storage.version import Version
from schemas.documents import Manifest, Provenance, RefEntry
from schemas.ref import ArtifactRef

Trouble = Literal["lost", "damaged"]
NOTES = ("corpora.json", "summary.json", "yield.json")  # files read, counts and evaluation lists, yield of each rule
TAIL_BYTES = 64 << 10  # of a Parquet file: its schema lies there


@dataclass(frozen=True)
class Listed:
    """One published version, as `lightgen ls` shows it. `n` is its number in the log; `age` from publication.

    `roles` are those that mean it now: of the versions published for a role, the newest. Where its manifest is lost or
    damaged, `trouble` says so, and `rows` and `bytes` are not known.
    """

    kind: str
    n: int
    version: str
    fingerprint: str
    rows: int | None
    bytes: int | None
    age: timedelta
    roles: tuple[str, ...]
    tags: tuple[str, ...]
    retired: bool
    evicted: bool
    trouble: Trouble | None


@dataclass(frozen=True)
class Shown:
    """One version in full, as `lightgen show` shows it. `notes` are its small JSON files: what was read and found."""

    ref: ArtifactRef
    stage: str
    seed: int
    config: dict
    inputs: dict
    parents: list[ArtifactRef]
    n_shards: int
    rows_in: int
    rows_out: int
    rows_reused: int
    reject_reasons: dict[str, int]
    bytes: int
    seconds: float
    provenance: list[Provenance]
    roles: tuple[str, ...]
    tags: tuple[str, ...]
    columns: list[tuple[str, str, dict[str, str]]]
    files: list[str] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Difference:
    """Keys of rows that stand in only one of two versions, or in both with other content."""

    added: list[str]
    removed: list[str]
    changed: list[str]
    same: int


def list_versions(store: Store, kind: str | None = None, now: datetime | None = None) -> list[Listed]:
    """Published versions of one kind or all, oldest first. Raises RefNotFound for an unknown kind, StoreCorrupt."""
    if kind is not None and kind not in KINDS:
        raise RefNotFound(f"{kind!r} is not a kind of artifact; there are {', '.join(KINDS)}")
    return [line for k in ([kind] if kind else KINDS) for line in _list_kind(store, k, now or datetime.now(UTC))]


def show(store: Store, ref: ArtifactRef | str) -> Shown:
    """All about one version. Raises RefNotFound, StoreCorrupt."""
    version = store.open(ref)
    plan, rows, entries = version.plan, version.manifest.rows, store.log(version.ref.kind)
    roles = _roles(entries, retired(entries), standing(entries))
    return Shown(
        ref=version.ref,
        stage=plan.stage,
        seed=plan.seed,
        config=plan.config,
        inputs=plan.inputs,
        parents=version.parents,
        n_shards=plan.n_shards,
        rows_in=rows.taken,
        rows_out=rows.out,
        rows_reused=version.rows_reused,
        reject_reasons=version.reject_reasons,
        bytes=version.bytes_total,
        seconds=version.seconds,
        provenance=_provenance(version),
        roles=roles.get(version.ref.version, ()),
        tags=_tags(entries).get(version.ref.version, ()),
        columns=[(f.name, str(f.type), _metadata(f)) for f in declared_schema(version)],
        files=[path for role in ("table", "tar", "file") for path in version.paths(role)],
        notes={name: json.loads(version.file(name).read_bytes()) for name in version.file_names if name in NOTES},
    )


def _provenance(version: Version) -> list[Provenance]:
    """What its workers ran on, each once."""
    found = []
    for digest in dict.fromkeys(receipt.provenance for receipt in version.manifest.shards):
        where = f"{version.folder}/provenance/{digest}.json"
        try:
            found.append(parse_document(Provenance, version.files.read(where), where))
        except FileNotFoundError:
            raise StoreCorrupt(f"{where}: is missing; receipts name it") from None
    return found


def declared_schema(version: Version) -> pa.Schema:
    """The schema of its rows, from the end of one file, however large that is. Raises StoreCorrupt."""
    entry, receipt = version.entry("table", 0), version.manifest.shards[0]
    key, size = f"{version.folder}/{entry.path}", TAIL_BYTES
    while True:
        tail = version.files.read_range(key, max(0, entry.bytes - size), min(size, entry.bytes))
        schema, size = schema_of_tail(tail, key)
        if schema is not None:
            break
    if schema_digest(schema) != receipt.schema_sha256:
        raise StoreCorrupt(f"{key}: its schema is not that of the receipt")
    return schema


def diff(store: Store, before: ArtifactRef | str, after: ArtifactRef | str) -> Difference:
    """How the rows of `after` differ from those of `before`, by key. Raises RefNotFound, StoreCorrupt."""
    old, new = _by_key(store.open(before)), _by_key(store.open(after))
    both = old.keys() & new.keys()
    changed = sorted(key for key in both if old[key] != new[key])
    return Difference(
        added=sorted(new.keys() - old.keys()),
        removed=sorted(old.keys() - new.keys()),
        changed=changed,
        same=len(both) - len(changed),
    )


def _list_kind(store: Store, kind: str, now: datetime) -> Iterator[Listed]:
    entries = store.log(kind)
    tagged, passed_over, there = _tags(entries), retired(entries), standing(entries)
    roles = _roles(entries, passed_over, there)
    first: dict[str, RefEntry] = {}
    for entry in entries:
        if entry.op == "publish" and entry.version in there:
            first.setdefault(entry.version, entry)
    for entry in first.values():
        manifest, trouble = _manifest(store, kind, entry.version)
        yield Listed(
            kind=kind,
            n=entry.n,
            version=entry.version,
            fingerprint=entry.fingerprint,
            rows=manifest.rows.out if manifest else None,
            bytes=manifest.bytes_total if manifest else None,
            age=now - datetime.fromisoformat(entry.at),
            roles=roles.get(entry.version, ()),
            tags=tagged.get(entry.version, ()),
            retired=entry.version in passed_over,
            evicted=kind == "images" and manifest is not None and Version(store.files, manifest).evicted,
            trouble=trouble,
        )


def _manifest(store: Store, kind: str, version: str) -> tuple[Manifest | None, Trouble | None]:
    try:
        return store.manifest(kind, version), None
    except RefNotFound:
        return None, "lost"
    except StoreCorrupt:
        return None, "damaged"


def _tags(entries: list[RefEntry]) -> dict[str, tuple[str, ...]]:
    """Tags by version: the newest use of a name counts."""
    return _by_holder(tags(entries))


def _roles(entries: list[RefEntry], passed_over: set[str], there: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Roles by the version that `kind@role` means: of those that are there and not retired, the newest."""
    standing = [e for e in entries if e.op == "publish" and e.version in there and e.version not in passed_over]
    return _by_holder({entry.role: entry.version for entry in standing if entry.role})


def _by_holder(holder: dict[str, str]) -> dict[str, tuple[str, ...]]:
    """Names by the version that holds them."""
    return {v: tuple(sorted(name for name, held in holder.items() if held == v)) for v in set(holder.values())}


def _metadata(column: pa.Field) -> dict[str, str]:
    return {key.decode(): value.decode() for key, value in (column.metadata or {}).items()}


def _by_key(version: Version) -> dict[str, bytes]:
    digests = version.digests()
    return dict(zip(digests["key"].to_pylist(), digests["digest"].to_pylist(), strict=True))
