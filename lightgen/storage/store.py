"""A store: a folder or an S3 prefix of immutable, verifiable versions.

store.json                                    which store this is
v/<kind>/<version>/plan.json                  the recipe, written first
v/<kind>/<version>/{data,index,digests,rejects,files}/part-00012-of-00064.<sha16>.<name>
v/<kind>/<version>/done/00012.json            receipt: the commit of one shard
v/<kind>/<version>/manifest.json              the commit of the version, written last
refs/<kind>/00000041.json                     log: latest, tags
_tmp, _scratch                                local work in progress; never part of a version
"""

import contextlib
import logging
import os
import re
import uuid
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import get_args

from lightgen.errors import RefNotFound, StoreConflict, StoreCorrupt, StoreError, StoreReadOnly, StoreUnsupported
from lightgen.settings import cache_folder, s3_endpoint
from lightgen.storage.documents import parse_document
from lightgen.storage.files import Files
from lightgen.storage.local import LocalFiles
from lightgen.storage.refs import append, publish, read_log, retired, tags
from lightgen.storage.version import Version
from schemas.documents import TAG, FileEntry, Manifest, Plan, Receipt, RefEntry, StoreMark
from schemas.ref import ArtifactRef, Kind

log = logging.getLogger(__name__)
ALIGNED = "dpo"  # role of the checkpoint that `checkpoint@latest` means, where there is one
UNAUDITED = "unaudited"  # role of pairs that nobody vouches for yet: `latest` passes over them
KINDS: tuple[str, ...] = get_args(Kind)
VERSION_NAME = re.compile(r"^[0-9a-f]{32}\Z")
PREFIX = re.compile(r"^[0-9a-f]{8,32}\Z")


class Store:
    """One store; opened by `open_store` or `open_or_create`."""

    def __init__(self, files: Files) -> None:
        self.files = files
        self.uri = files.uri

    def open(self, ref: ArtifactRef | str) -> Version:
        """The sealed version that `ref` names, or another of the same content. Raises RefNotFound, StoreCorrupt."""
        if isinstance(ref, str):
            return Version(self.files, self.manifest(*self.resolve(ref)))
        try:
            found = Version(self.files, self.manifest(ref.kind, ref.version))
        except RefNotFound:
            return self.with_content(ref.kind, ref.content)
        if ref.content != found.manifest.content:
            raise StoreCorrupt(f"{ref} was made with other content than {self.uri} holds under that name")
        return found

    def with_content(self, kind: Kind, content: str) -> Version:
        """The newest published version of this content. Raises RefNotFound."""
        for entry in reversed(self.log(kind)):
            if entry.content == content:
                with contextlib.suppress(RefNotFound):
                    return Version(self.files, self.manifest(kind, entry.version))
        raise RefNotFound(f"{self.uri} holds no {kind} of content {content[:12]}; make it again, or copy its version")

    def resolve(self, ref: str, retired_too: bool = False) -> tuple[str, str]:
        """Kind and version of `kind`, `kind@latest`, `kind@<role>`, `kind@3`, `kind@<digits>` or `kind@tag:name`.

        `latest` and roles pass over retired versions, unless `retired_too`.
        """
        kind, _, what = ref.partition("@")
        if kind not in KINDS:
            raise RefNotFound(f"{kind!r} is not a kind of artifact; there are {', '.join(KINDS)}")
        entries = self.log(kind)
        passed_over = set[str]() if retired_too else retired(entries)
        matches = self._matches(kind, what or "latest", entries, passed_over)
        if len(matches) == 1:
            return kind, matches[0]
        if matches:
            raise RefNotFound(f"{ref!r} fits {len(matches)} versions: {', '.join(sorted(matches))}; give more digits")
        known = ", ".join(_known(kind, entries)) or f"no {kind} yet"
        raise RefNotFound(f"{ref!r} is not in {self.uri}. There is: {known}")

    def find_sealed(self, plan: Plan) -> ArtifactRef | None:
        """The finished version of this recipe, its files present and of the right size. Raises StoreCorrupt."""
        try:
            manifest = self.manifest(plan.kind, plan.version)
        except RefNotFound:
            return None
        self.check_sizes(manifest)
        return ref_of(self, manifest)

    def log(self, kind: str) -> list[RefEntry]:
        """Entries of the log of `kind`, first to last: n, version, op, tag, at. Raises StoreCorrupt."""
        return read_log(self.files, kind)

    def publish(self, ref: ArtifactRef, role: str) -> None:
        """Put a sealed version into the log once more, for `role`. Raises RefNotFound."""
        publish(self.files, self.open(ref).manifest, role)

    def tag(self, ref: ArtifactRef | str, name: str) -> None:
        """Give a version a name; the newest wins. Raises StoreError for a name that cannot be one."""
        if not re.fullmatch(TAG, name):
            raise StoreError(f"{name!r} cannot be a tag: 1 to 64 letters, digits, '.', '_' and '-'")
        version = self.open(ref)
        append(self.files, version.manifest, "tag", name)

    def untag(self, ref: ArtifactRef | str, name: str) -> None:
        """Take a name from a version. Raises RefNotFound where the version does not have it."""
        version = self.open(ref)
        if tags(self.log(version.ref.kind)).get(name) != version.ref.version:
            raise RefNotFound(f"{version.ref} is not tagged {name!r}")
        append(self.files, version.manifest, "untag", name)

    def retire(self, ref: ArtifactRef | str) -> None:
        """Take a version out of `latest`, for good: only `restore` undoes it. Its bytes stay until collected."""
        append(self.files, self.open(ref).manifest, "retire")

    def restore(self, ref: ArtifactRef | str) -> None:
        """Undo `retire`; a role means its newest version. Raises RefNotFound where that was collected meanwhile."""
        named = "@".join(self.resolve(ref, retired_too=True)) if isinstance(ref, str) else ref
        append(self.files, self.open(named).manifest, "restore")

    def scratch(self, plan: Plan) -> Path:
        """A local folder for work in progress of `plan`; survives a kill, removed once the version is sealed."""
        return self.files.scratch(f"{plan.kind}-{plan.version}")

    def versions(self, kind: str) -> list[str]:
        """Digests of all versions with a folder, finished or not."""
        return [name for name in self.files.names(f"v/{kind}") if VERSION_NAME.match(name)]

    def check_sizes(self, manifest: Manifest) -> None:
        """Raises StoreCorrupt where a file of the version is missing or of another size."""
        base = f"v/{manifest.kind}/{manifest.version}"
        for entry, got in wrong_sizes(self.files, base, manifest.shards):
            if entry.role == "tar" and Version(self.files, manifest).evicted:
                continue
            raise StoreCorrupt(f"{base}/{entry.path}: expected {entry.bytes} bytes, got {got}")

    @cached_property
    def mark(self) -> StoreMark:
        """The store's identity."""
        return parse_document(StoreMark, self.files.read("store.json"), f"{self.uri}/store.json")

    def manifest(self, kind: str, version: str) -> Manifest:
        """The manifest of a sealed version. Raises RefNotFound where there is none, StoreCorrupt."""
        where = f"v/{kind}/{version}/manifest.json"
        try:
            manifest = parse_document(Manifest, self.files.read(where), where)
        except FileNotFoundError:
            raise RefNotFound(f"{kind}@{version[:12]} is not a finished version of {self.uri}") from None
        if (manifest.kind, manifest.version) != (kind, version):
            raise StoreCorrupt(f"{where}: is the manifest of {manifest.kind}@{manifest.version}")
        return manifest

    def _matches(self, kind: str, what: str, entries: list[RefEntry], passed_over: set[str]) -> list[str]:
        published = [e for e in entries if e.op == "publish" and e.version not in passed_over]
        if what == "latest":
            published = [e for e in published if e.role != UNAUDITED]
            aligned = [e for e in published if kind == "checkpoint" and e.role == ALIGNED]
            return [e.version for e in aligned or published][-1:]
        if any(e.role == what for e in entries):
            return [e.version for e in published if e.role == what][-1:]
        if what.startswith("tag:"):
            return [version for name, version in tags(entries).items() if name == what[4:]]
        if what.isdecimal() and len(what) < 8:
            return [e.version for e in entries if e.n == int(what)]
        if PREFIX.match(what):
            return sorted({e.version for e in entries if e.version.startswith(what)})
        return []


def open_store(uri: str, *, cache: Path | None = None) -> Store:
    """The store at a local path or `s3://bucket/prefix`, for whoever reads: nothing is made or changed.

    `cache` holds local copies of remote files. Raises RefNotFound where there is no store, StoreAccess, StoreCorrupt,
    UnsafePath.
    """
    files = _files(uri, cache)
    if not _has_mark(files):
        raise RefNotFound(
            f"there is no store at {files.uri}. Check --store and LIGHTGEN_STORE; only a run that makes something "
            "creates a store"
        )
    return _opened(files)


def open_or_create(uri: str, *, cache: Path | None = None) -> Store:
    """The same for whoever builds: the store is created where it is absent.

    Raises StoreUnsupported where the place cannot create a key only if it is absent, and as `open_store` does.
    """
    files = _files(uri, cache)
    if not _has_mark(files):
        probe(files)
        mark = StoreMark(store_id=uuid.uuid4().hex)
        with contextlib.suppress(StoreConflict):  # another run made it in this moment
            files.create("store.json", [mark.canonical()])
    if isinstance(files, LocalFiles):
        files.sweep()
    return _opened(files)


def wrong_sizes(files: Files, base: str, receipts: Iterable[Receipt]) -> Iterator[tuple[FileEntry, str]]:
    """Files that the receipts name and that are not as long as they say, each with what there is instead.

    Each folder of the version at `base` is listed once.
    """
    entries = [entry for receipt in receipts for entry in receipt.files]
    folders = sorted({entry.path.split("/")[0] for entry in entries})
    sizes = {f"{folder}/{n}": size for folder in folders for n, size in files.sizes(f"{base}/{folder}").items()}
    for entry in entries:
        if sizes.get(entry.path) != entry.bytes:
            yield entry, f"{sizes[entry.path]} bytes" if entry.path in sizes else "missing"


def try_conditional_writes(uri: str) -> None:
    """Raise StoreError where no store can be created at `uri`. On S3 a key is written and deleted; nothing stays."""
    files = _files(uri, None)
    if not isinstance(files, LocalFiles):
        probe(files)
        return
    folder = Path(uri.removeprefix("file://")).expanduser().absolute()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise StoreReadOnly(f"{there} is no folder that may be written: no store can be made at {uri}")


def probe(files: Files) -> None:
    """Raises StoreUnsupported where a second create of one key is not refused, or a new key is not listed at once."""
    name = uuid.uuid4().hex
    key, first, second = f"_probe/{name}", b"first", b"second, which must be refused"
    files.create(key, [first])
    try:
        refused = False
        try:
            files.create(key, [second])
        except StoreConflict:
            refused = True
        if not refused or files.read(key) != first:
            raise StoreUnsupported(
                f"{files.uri} ignores 'create only if absent' (If-None-Match); two runs could overwrite each other. "
                "Use a store with conditional PUT, such as AWS S3, SeaweedFS or a local disk."
            )
        if name not in files.names("_probe"):
            raise StoreUnsupported(f"{files.uri} does not list a key right after it was created")
    finally:
        files.delete(key)


def ref_of(store: Store, manifest: Manifest) -> ArtifactRef:
    """The reference to a sealed version of `store`."""
    return ArtifactRef(
        kind=manifest.kind,
        uri=store.uri,
        version=manifest.version,
        content=manifest.content,
        rows=manifest.rows.out,
        fingerprint=manifest.fingerprint,
    )


def _has_mark(files: Files) -> bool:
    try:
        files.read("store.json")
    except FileNotFoundError:
        return False
    return True


def _opened(files: Files) -> Store:
    store = Store(files)
    log.debug("opened store %s (%s)", store.uri, store.mark.store_id)
    return store


def _files(uri: str, cache: Path | None) -> Files:
    if uri.startswith("s3://"):
        from lightgen.storage.s3 import S3Files

        return S3Files(uri, s3_endpoint(), cache or cache_folder())
    if "://" in uri.removeprefix("file://"):
        raise StoreError(f"{uri}: a store is a folder or s3://bucket/prefix")
    return LocalFiles(Path(uri.removeprefix("file://")).expanduser())


def _known(kind: str, entries: list[RefEntry]) -> list[str]:
    passed_over = retired(entries)
    shown = [e for e in entries if e.op == "publish"][-5:]
    published = [f"{kind}@{e.n} ({e.version[:12]}{', retired' * (e.version in passed_over)})" for e in shown]
    roles = sorted({f"{kind}@{e.role}" for e in entries if e.role and e.version not in passed_over})
    return [*published, *roles, *sorted(f"{kind}@tag:{name}" for name in tags(entries))]
