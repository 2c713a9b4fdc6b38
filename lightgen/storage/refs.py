"""The log of a kind: numbered, create-only entries, each chained to the one before. "Latest" is read from it."""

import hashlib
import re
from datetime import UTC, datetime
from typing import Literal

from lightgen.errors import StoreConflict, StoreCorrupt
from lightgen.storage.documents import parse_document
from lightgen.storage.files import Files
from schemas.documents import Manifest, RefEntry

ENTRY = re.compile(r"^(\d{8})\.json\Z")


def read_log(files: Files, kind: str) -> list[RefEntry]:
    """All entries, first to last. Raises StoreCorrupt for a gap, a broken chain or an entry that does not parse."""
    entries, previous = [], ""
    for n, (where, data) in enumerate(_stored(files, kind), start=1):
        entry = parse_document(RefEntry, data, where)
        if where != _key(kind, n) or entry.n != n or entry.kind != kind:
            raise StoreCorrupt(f"{where}: entry {n} of the log of {kind} is missing")
        if entry.prev_sha256 != previous:
            raise StoreCorrupt(f"{where}: prev_sha256 is not the digest of entry {n - 1}; one of them was changed")
        entries.append(entry)
        previous = hashlib.sha256(data).hexdigest()
    return entries


Op = Literal["publish", "tag", "retire"]


def publish(files: Files, manifest: Manifest, role: str = "") -> None:
    """Put a sealed version into the log for `role`, unless it stands there already."""
    append(files, manifest, "publish", role=role)


def append(files: Files, manifest: Manifest, op: Op, tag: str = "", role: str = "") -> None:
    """Add one entry; what is true already is not said again."""
    while True:
        log = read_log(files, manifest.kind)
        if _is_said(log, manifest.version, op, tag, role):
            files.settle(f"refs/{manifest.kind}")
            return
        entry = RefEntry(
            n=len(log) + 1,
            op=op,
            kind=manifest.kind,
            version=manifest.version,
            content=manifest.content,
            fingerprint=manifest.fingerprint,
            role=role,
            manifest_sha256=hashlib.sha256(manifest.canonical()).hexdigest(),
            tag=tag,
            at=datetime.now(UTC).isoformat(timespec="seconds"),
            prev_sha256=hashlib.sha256(files.read(_key(manifest.kind, len(log)))).hexdigest() if log else "",
        )
        try:
            files.create(_key(manifest.kind, entry.n), [entry.canonical()])
            return
        except StoreConflict:
            continue  # another run took this number; read its entry and try the next


def _is_said(log: list[RefEntry], version: str, op: str, tag: str, role: str) -> bool:
    if op == "tag":
        return next((e.version for e in reversed(log) if e.op == "tag" and e.tag == tag), None) == version
    if op == "publish" and role:
        return next((e.version for e in reversed(log) if e.op == "publish" and e.role == role), None) == version
    last = next((e.op for e in reversed(log) if e.version == version and e.op != "tag"), None)
    return last == op


def _stored(files: Files, kind: str) -> list[tuple[str, bytes]]:
    keys = [f"refs/{kind}/{name}" for name in files.names(f"refs/{kind}") if ENTRY.match(name)]
    return list(zip(keys, files.read_many(keys), strict=True))


def _key(kind: str, n: int) -> str:
    return f"refs/{kind}/{n:08d}.json"
