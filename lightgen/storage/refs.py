"""The log of a kind: numbered, create-only, hash-chained entries that say what was published, tagged and retired."""

import hashlib
import re
from datetime import UTC, datetime
from typing import Literal

from lightgen.errors import StoreConflict, StoreCorrupt
from lightgen.storage.documents import parse_document
from lightgen.storage.files import Files
from schemas.documents import Manifest, RefEntry
from schemas.ref import Kind

Operation = Literal["publish", "tag", "retire"]
ENTRY = re.compile(r"^(\d{8})\.json$")


def read_log(files: Files, kind: str) -> list[RefEntry]:
    """Every entry in order. Raises StoreCorrupt for a gap, a wrong number or a broken chain."""
    names = [name for name in files.names(f"refs/{kind}") if ENTRY.match(name)]
    entries: list[RefEntry] = []
    before = b""
    for n, (name, data) in enumerate(
        zip(names, files.read_many([f"refs/{kind}/{name}" for name in names]), strict=True), 1
    ):
        where = f"{files.uri}/refs/{kind}/{name}"
        entry = parse_document(RefEntry, data, where)
        if name != f"{n:08d}.json" or entry.n != n or entry.kind != kind:
            raise StoreCorrupt(f"{where}: entry {n} of the log was expected here; one is missing or misplaced")
        if entry.prev_sha256 != (hashlib.sha256(before).hexdigest() if before else ""):
            raise StoreCorrupt(f"{where}: prev_sha256 is not the digest of the entry before; one of the two was edited")
        entries.append(entry)
        before = data
    return entries


def append(
    files: Files, kind: Kind, manifest: Manifest, op: Literal["publish", "tag", "retire"], tag: str = ""
) -> RefEntry:
    """Append an entry; what the log says already is not said twice. Races are settled by create-if-absent."""
    while True:
        log = read_log(files, kind)
        if known := _said(log, manifest.version, op, tag):
            return known
        entry = RefEntry(
            n=len(log) + 1,
            op=op,
            kind=kind,
            version=manifest.version,
            fingerprint=manifest.fingerprint,
            manifest_sha256=hashlib.sha256(manifest.canonical()).hexdigest(),
            tag=tag,
            at=datetime.now(UTC).isoformat(timespec="seconds"),
            prev_sha256=hashlib.sha256(log[-1].canonical()).hexdigest() if log else "",
        )
        try:
            files.create(f"refs/{kind}/{entry.n:08d}.json", [entry.canonical()])
        except StoreConflict:
            continue
        return entry


def _said(log: list[RefEntry], version: str, op: str, tag: str) -> RefEntry | None:
    """The latest word on `version` (or on `tag`), if it is the same already."""
    if op == "tag":
        last = next((entry for entry in reversed(log) if entry.op == "tag" and entry.tag == tag), None)
        return last if last and last.version == version else None
    last = next((entry for entry in reversed(log) if entry.op != "tag"), None)
    return last if last and last.version == version and last.op == op else None
