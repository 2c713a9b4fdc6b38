"""The log of a kind: numbered, create-only entries, each chained to the one before. "Latest" is read from it.

publish   the version is sealed, with this manifest
tag       the version has this name; the newest use of a name counts
untag     no version has this name any more
retire    the version is out of `latest`, and may be collected; publishing it again does not undo that
restore   the version is retired no longer
collect   garbage collection is about to delete the version; "publish" follows where it is made again
"""

import hashlib
import logging
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

from lightgen.errors import StoreConflict, StoreCorrupt
from lightgen.storage.documents import parse_document
from lightgen.storage.files import Files
from schemas.documents import Manifest, RefEntry

logger = logging.getLogger(__name__)
Op = Literal["publish", "tag", "untag", "retire", "restore", "collect"]
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


def publish(files: Files, manifest: Manifest, role: str = "") -> None:
    """Put a sealed version into the log for `role`, unless it stands there already. A retired one stays retired."""
    entries = append(files, manifest, "publish", role=role)
    if manifest.version in retired(entries):
        name = f"{manifest.kind}@{manifest.version[:12]}"
        logger.warning("%s is retired, `latest` passes it over: `lightgen retire %s --undo` brings it back", name, name)


def retired(entries: Sequence[RefEntry]) -> set[str]:
    """Versions that were retired and not restored since."""
    state = {entry.version: entry.op for entry in entries if entry.op in ("retire", "restore")}
    return {version for version, op in state.items() if op == "retire"}


def tags(entries: Sequence[RefEntry]) -> dict[str, str]:
    """The version that each name means."""
    found: dict[str, str] = {}
    for entry in entries:
        if entry.op == "tag":
            found[entry.tag] = entry.version
        elif entry.op == "untag":
            found.pop(entry.tag, None)
    return found


def standing(entries: Sequence[RefEntry]) -> dict[str, list[RefEntry]]:
    """Versions that the log vouches for, each with its newest "publish" and what was said after that.

    One that was collected, and not made again, is not among them.
    """
    found: dict[str, list[RefEntry]] = {}
    for entry in entries:
        if entry.op == "collect":
            found.pop(entry.version, None)
        elif entry.op == "publish":
            found[entry.version] = [entry]
        else:
            found.setdefault(entry.version, []).append(entry)
    return found


def append(files: Files, manifest: Manifest, op: Op, tag: str = "", role: str = "") -> list[RefEntry]:
    """Add one entry, unless it says what is true already; the log as it stands then."""
    while True:
        log = read_log(files, manifest.kind)
        if _is_said(log, manifest, op, tag, role):
            files.settle(f"refs/{manifest.kind}")
            return log
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
            return [*log, entry]
        except StoreConflict:
            continue  # another run took this number; read its entry and try the next


def _is_said(log: list[RefEntry], manifest: Manifest, op: Op, tag: str, role: str) -> bool:
    if op in ("tag", "untag"):
        return (op == "tag") == (tags(log).get(tag) == manifest.version)
    if op in ("retire", "restore"):
        return (op == "retire") == (manifest.version in retired(log))
    last = next((e for e in reversed(log) if e.version == manifest.version and e.op in ("publish", "collect")), None)
    if last is None or last.op != op:
        return False
    # Made again after it was lost or collected, a version has another manifest: its receipts hold other times.
    if op != "collect" and last.manifest_sha256 != hashlib.sha256(manifest.canonical()).hexdigest():
        return False
    if not role:
        return True
    return next((e.version for e in reversed(log) if e.op == op and e.role == role), None) == manifest.version


def _stored(files: Files, kind: str) -> list[tuple[str, bytes]]:
    keys = [f"refs/{kind}/{name}" for name in files.names(f"refs/{kind}") if ENTRY.match(name)]
    return list(zip(keys, files.read_many(keys), strict=True))


def _key(kind: str, n: int) -> str:
    return f"refs/{kind}/{n:08d}.json"
