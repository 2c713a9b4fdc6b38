"""A store of immutable versions, on a local disk or on S3."""

import re
import uuid
from pathlib import Path
from typing import get_args

from lightgen.errors import RefNotFound, StoreConflict, StoreError, StoreUnsupported
from lightgen.storage import refs
from lightgen.storage.documents import parse_document
from lightgen.storage.files import Files
from lightgen.storage.local import LocalFiles
from lightgen.storage.version import Version, read_manifest
from schemas.documents import Plan, RefEntry, StoreMark
from schemas.ref import ArtifactRef, Kind

KINDS: tuple[Kind, ...] = get_args(Kind)
REF = re.compile(r"^(?P<kind>[a-z]+)(@(?P<what>latest|\d{1,7}|tag:[A-Za-z0-9._-]+|[0-9a-f]{8,32}))?$")


class Store:
    """Finds versions; `storage.build` makes them."""

    def __init__(self, files: Files) -> None:
        self.files, self.uri = files, files.uri

    def open(self, ref: ArtifactRef | str) -> Version:
        """A sealed version. Raises RefNotFound saying what there is, StoreCorrupt for a damaged manifest."""
        kind, version = (ref.kind, ref.version) if isinstance(ref, ArtifactRef) else self._resolve(ref)
        manifest = read_manifest(self.files, kind, version)
        if manifest is None:
            raise RefNotFound(f"{kind}@{version[:12]} is not in {self.uri}; {self._known(kind)}")
        return Version(self.files, f"v/{kind}/{version}", manifest)

    def find_sealed(self, plan: Plan) -> ArtifactRef | None:
        """The version of `plan` if it is sealed already; its place in the log is mended if a kill left it out."""
        manifest = read_manifest(self.files, plan.kind, plan.version)
        if manifest is None:
            return None
        if not any(entry.version == plan.version for entry in self.log(plan.kind)):
            refs.append(self.files, plan.kind, manifest, "publish")
        return Version(self.files, f"v/{plan.kind}/{plan.version}", manifest).ref

    def log(self, kind: Kind) -> list[RefEntry]:
        """What was published, tagged and retired, oldest first."""
        return refs.read_log(self.files, kind)

    def tag(self, ref: ArtifactRef, name: str) -> None:
        """Let `kind@tag:name` mean this version."""
        refs.append(self.files, ref.kind, self.open(ref).manifest, "tag", name)

    def retire(self, ref: ArtifactRef) -> None:
        """Take a version out of `latest`; its bytes stay."""
        refs.append(self.files, ref.kind, self.open(ref).manifest, "retire")

    def scratch(self, plan: Plan) -> Path:
        """A local folder for unfinished work on `plan`; survives a kill, is never visible to readers."""
        return self.files.scratch(f"{plan.kind}-{plan.version}")

    def _resolve(self, text: str) -> tuple[Kind, str]:
        match = REF.match(text)
        kind = next((kind for kind in KINDS if match and match["kind"] == kind), None)
        if match is None or kind is None:
            raise RefNotFound(
                f"{text!r} names no artifact: write KIND@latest, KIND@3, KIND@<8 or more digits of a digest> or "
                f"KIND@tag:NAME, with KIND one of {', '.join(KINDS)}"
            )
        what, log = match["what"] or "latest", self.log(kind)
        found = set(_matching(log, what))
        if len(found) == 1:
            return kind, found.pop()
        trouble = "means several versions" if found else "is not in the log"
        raise RefNotFound(f"{text}: {trouble} of {self.uri}; {self._known(kind)}")

    def _known(self, kind: Kind) -> str:
        known = [f"{kind}@{entry.n} ({entry.version[:12]})" for entry in self.log(kind) if entry.op == "publish"]
        return f"there is {', '.join(known[-5:])}" if known else f"there are no {kind} yet"


def _matching(log: list[RefEntry], what: str) -> list[str]:
    """Versions of the log that `what` means."""
    retired = {entry.version for entry in log if entry.op == "retire"}
    if what == "latest":
        alive = [entry.version for entry in log if entry.op == "publish" and entry.version not in retired]
        return alive[-1:]
    if what.startswith("tag:"):
        return [entry.version for entry in log if entry.op == "tag" and entry.tag == what[4:]][-1:]
    if len(what) < 8:
        return [entry.version for entry in log if str(entry.n) == what]
    return [entry.version for entry in log if entry.version.startswith(what)]


def open_store(uri: str) -> Store:
    """The store at a folder or `s3://bucket/prefix`, made if absent.

    Raises StoreUnsupported where the place cannot create a key only if it is absent, StoreAccess, StoreFull,
    StoreReadOnly or UnsafePath.
    """
    files = _files(uri)
    try:
        parse_document(StoreMark, files.read("store.json"), f"{files.uri}/store.json")
    except FileNotFoundError:
        _probe(files)
        try:
            files.create("store.json", [StoreMark(store_id=uuid.uuid4().hex).canonical()])
        except StoreConflict:
            parse_document(StoreMark, files.read("store.json"), f"{files.uri}/store.json")
    return Store(files)


def _files(uri: str) -> Files:
    if uri.startswith("s3://"):
        from lightgen.storage.s3 import S3Files

        return S3Files(uri)
    if "://" in uri:
        raise StoreError(f"{uri}: a store is a folder or s3://bucket/prefix")
    return LocalFiles(Path(uri))


def _probe(files: Files) -> None:
    """Create one key twice: the second time must be refused and must change nothing."""
    key = f"_probe/{uuid.uuid4().hex}"
    refused = False
    files.create(key, [b"first"])
    try:
        files.create(key, [b"second"])
    except StoreConflict:
        refused = True
    kept = files.read(key) == b"first"
    listed = key.split("/")[1] in files.names("_probe")
    files.delete(key)
    if not (refused and kept and listed):
        raise StoreUnsupported(
            f"{files.uri} ignores If-None-Match, so two runs could overwrite each other there. "
            "Use a store with conditional writes: AWS S3, SeaweedFS, MinIO, or a local folder"
        )
