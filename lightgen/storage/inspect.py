"""Looking into a store: what there is, what it was made of, whether it is whole, how two versions differ."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

import numpy as np
import pyarrow as pa

from lightgen.errors import RefNotFound, StoreCorrupt
from lightgen.storage.refs import retired, standing
from lightgen.storage.store import KINDS, Store
from lightgen.storage.verify import Problem, verify
from lightgen.storage.version import Version
from schemas.documents import Manifest, RefEntry
from schemas.ref import ArtifactRef

__all__ = ["Difference", "Listed", "Problem", "Shown", "Step", "diff", "list_versions", "show", "trace", "verify"]
Trouble = Literal["lost", "damaged"]
FOLLOWED = ("id", "caption_id", "prompt_id", "winner_id")


@dataclass(frozen=True)
class Listed:
    """One published version, as `lightgen ls` shows it. `n` is its number in the log; `age` from publication.

    Where its manifest is lost or damaged, `trouble` says so, and `rows` and `bytes` are not known.
    """

    kind: str
    n: int
    version: str
    fingerprint: str
    rows: int | None
    bytes: int | None
    age: timedelta
    tags: tuple[str, ...]
    retired: bool
    trouble: Trouble | None


@dataclass(frozen=True)
class Shown:
    """One version in full, as `lightgen show` shows it."""

    ref: ArtifactRef
    stage: str
    seed: int
    config: dict
    inputs: dict
    parents: list[ArtifactRef]
    n_shards: int
    rows_in: int
    rows_out: int
    reject_reasons: dict[str, int]
    bytes: int
    seconds: float
    tags: tuple[str, ...]
    columns: list[tuple[str, str, dict[str, str]]]
    files: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Difference:
    """Keys of rows that stand in only one of two versions, or in both with other content."""

    added: list[str]
    removed: list[str]
    changed: list[str]
    same: int


@dataclass(frozen=True)
class Step:
    """One row or version on the way of an id: the kind, where it stands, and its values (binary columns left out)."""

    kind: str
    ref: ArtifactRef
    shard: int | None
    outcome: str
    row: dict


def list_versions(store: Store, kind: str | None = None, now: datetime | None = None) -> list[Listed]:
    """Published versions of one kind or all, oldest first. Raises RefNotFound for an unknown kind, StoreCorrupt."""
    if kind is not None and kind not in KINDS:
        raise RefNotFound(f"{kind!r} is not a kind of artifact; there are {', '.join(KINDS)}")
    return [line for k in ([kind] if kind else KINDS) for line in _list_kind(store, k, now or datetime.now(UTC))]


def show(store: Store, ref: ArtifactRef | str) -> Shown:
    """All about one version. Raises RefNotFound, StoreCorrupt."""
    version = store.open(ref)
    plan, rows = version.plan, version.manifest.rows
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
        reject_reasons=version.reject_reasons,
        bytes=version.bytes_total,
        seconds=version.seconds,
        tags=_tags(store.log(plan.kind)).get(version.ref.version, ()),
        columns=[(f.name, str(f.type), _metadata(f)) for f in version.table(0).schema],
        files=[path for role in ("table", "tar", "file") for path in version.paths(role)],
    )


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


def trace(store: Store, id: str) -> list[Step]:
    """Where a row comes from and where it went: caption, prompt, images, features, pairs, then the checkpoints made
    of those versions. Rejected rows are found too. Raises RefNotFound where the id stands nowhere."""
    versions = [store.open(f"{line.kind}@{line.version}") for line in list_versions(store) if not line.trouble]
    ids, steps = {id}, dict[tuple, Step]()
    while True:
        before = len(ids)
        for version in versions:
            for shard, outcome, row in _rows_with(version, ids):
                steps[version.ref.version, shard, outcome, row.get("id")] = Step(
                    version.ref.kind, version.ref, shard, outcome, row
                )
                ids |= {row[name] for name in FOLLOWED if row.get(name)}
        if len(ids) == before:
            break
    if not steps:
        raise RefNotFound(f"no row of {store.uri} has the id {id!r}")
    used = {step.ref.version for step in steps.values() if step.outcome == "kept"}
    made = [Step(v.ref.kind, v.ref, None, "made of it", {}) for v in _descendants(versions, used)]
    return sorted(steps.values(), key=lambda step: (KINDS.index(step.kind), step.ref.version)) + made


def _list_kind(store: Store, kind: str, now: datetime) -> Iterator[Listed]:
    entries = store.log(kind)
    tags, passed_over, there = _tags(entries), retired(entries), standing(entries)
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
            tags=tags.get(entry.version, ()),
            retired=entry.version in passed_over,
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
    holder = {entry.tag: entry.version for entry in entries if entry.op == "tag"}
    return {v: tuple(sorted(tag for tag, held in holder.items() if held == v)) for v in set(holder.values())}


def _metadata(column: pa.Field) -> dict[str, str]:
    return {key.decode(): value.decode() for key, value in (column.metadata or {}).items()}


def _by_key(version: Version) -> dict[str, bytes]:
    digests = version.digests()
    return dict(zip(digests["key"].to_pylist(), digests["digest"].to_pylist(), strict=True))


def _rows_with(version: Version, ids: set[str]) -> Iterator[tuple[int, str, dict]]:
    """Rows, kept or rejected, of which one of the followed columns is among `ids`."""
    wanted = sorted(ids)
    for shard in range(version.n_shards):
        for outcome, table in (("kept", version.table(shard)), ("rejected", version.rejects(shard))):
            names = [name for name in FOLLOWED if name in table.column_names]
            if not names or not table.num_rows:
                continue
            found = np.logical_or.reduce([np.isin(table[name].to_numpy(), wanted) for name in names])
            plain = [f.name for f in table.schema if not (pa.types.is_large_binary(f.type) or _is_binary(f.type))]
            for row in table.filter(pa.array(found)).select(plain).to_pylist():
                yield shard, outcome, row


def _is_binary(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_fixed_size_binary(kind)


def _descendants(versions: list[Version], used: set[str]) -> list[Version]:
    """Checkpoints and reports made from `used`, directly or through one another."""
    made: list[Version] = []
    reached = set(used)
    while True:
        more = [
            version
            for version in versions
            if version.ref.kind in ("checkpoint", "report", "vae")
            and version.ref.version not in reached
            and reached & {parent.version for parent in version.parents}
        ]
        if not more:
            return sorted(made, key=lambda version: KINDS.index(version.ref.kind))
        made += more
        reached |= {version.ref.version for version in more}
