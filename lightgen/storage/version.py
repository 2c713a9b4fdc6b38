"""A sealed version: its manifest, and its rows and files, each verified before it is handed out."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from lightgen.errors import RefNotFound, StoreCorrupt
from lightgen.storage.documents import parse_document
from lightgen.storage.files import Files
from lightgen.storage.parquet import read_parquet
from lightgen.storage.tar import read_members
from schemas.documents import FileEntry, Manifest, Plan, Receipt, Role
from schemas.ref import ArtifactRef


class Version:
    """Reads one sealed version."""

    def __init__(self, files: Files, folder: str, manifest: Manifest) -> None:
        self.files, self.folder, self.manifest = files, folder, manifest
        self._verified: dict[str, Path] = {}

    @cached_property
    def ref(self) -> ArtifactRef:
        """The reference that names this version."""
        m = self.manifest
        return ArtifactRef(
            kind=m.kind, uri=self.files.uri, version=m.version, rows=m.rows.out, fingerprint=m.fingerprint
        )

    @property
    def plan(self) -> Plan:
        """The recipe."""
        return self.manifest.plan

    @property
    def parents(self) -> list[ArtifactRef]:
        """The versions this one was made from."""
        return [ArtifactRef(uri=self.files.uri, **parent.model_dump()) for parent in self.plan.parents]

    @property
    def n_shards(self) -> int:
        """Number of shards."""
        return self.plan.n_shards

    @property
    def rows(self) -> int:
        """Rows of all shards, rejects not counted."""
        return self.manifest.rows.out

    @property
    def seconds(self) -> float:
        """Wall seconds of all shards together, from their receipts."""
        return sum(receipt.seconds for receipt in self.manifest.shards)

    @property
    def reject_reasons(self) -> dict[str, int]:
        """Reason -> rejected rows."""
        return dict(self.manifest.reject_reasons)

    @property
    def bytes_total(self) -> int:
        """Bytes of all files."""
        return self.manifest.bytes_total

    def table(self, shard: int | None = None, columns: list[str] | None = None) -> pa.Table:
        """Rows of one shard or of all, in order. Raises StoreCorrupt for bytes that are not the manifest's."""
        return self._table("table", shard, columns)

    def rejects(self, shard: int | None = None) -> pa.Table:
        """Rejected rows with their reasons."""
        return self._table("rejects", shard, None)

    def digests(self, shard: int | None = None) -> pa.Table:
        """Key and digest of every row."""
        return self._table("digests", shard, None)

    def samples(self, shard: int) -> Iterator[tuple[str, dict[str, bytes]]]:
        """(id, {extension: bytes}) of every sample of a tar shard, in table order."""
        entry = self._entry(self.manifest.shards[shard], "tar")
        where = f"{self.ref} {entry.path}"
        data = memoryview(self._path(entry).read_bytes())
        key, members = "", dict[str, bytes]()
        for member in read_members(data, where):
            name, _, extension = member.name.partition(".")
            if name != key and members:
                yield key, members
                members = {}
            key = name
            members[extension] = bytes(data[member.offset : member.offset + member.size])
        if members:
            yield key, members

    def member(self, id: str, extension: str) -> bytes:
        """One member of a sample, by the index. Raises KeyError."""
        shard, offset, size = self._index[id, extension]
        entry = self._entry(self.manifest.shards[shard], "tar")
        with self._path(entry).open("rb") as file:
            file.seek(offset)
            return file.read(size)

    def file(self, name: str) -> Path:
        """A local, verified path of the extra file `name`. Raises RefNotFound naming the files there are."""
        entries = {e.name: e for receipt in self.manifest.shards for e in receipt.files if e.role == "file"}
        if name not in entries:
            raise RefNotFound(f"{self.ref} has no file {name!r}; it has {', '.join(sorted(entries)) or 'none'}")
        return self._path(entries[name])

    @property
    def file_names(self) -> list[str]:
        """Names of the extra files."""
        return sorted(entry.name for receipt in self.manifest.shards for entry in receipt.files if entry.role == "file")

    @cached_property
    def _index(self) -> dict[tuple[str, str], tuple[int, int, int]]:
        found: dict[tuple[str, str], tuple[int, int, int]] = {}
        for shard in range(self.n_shards):
            for row in self._table("index", shard, None).to_pylist():
                found[row["key"], row["extension"]] = (shard, row["offset"], row["size"])
        return found

    def _table(self, role: Role, shard: int | None, columns: list[str] | None) -> pa.Table:
        shards = range(self.n_shards) if shard is None else [shard]
        return pa.concat_tables([self._read(self.manifest.shards[i], role, columns) for i in shards])

    def _read(self, receipt: Receipt, role: Role, columns: list[str] | None) -> pa.Table:
        entry = self._entry(receipt, role)
        where = f"{self.ref} {entry.path}"
        table = read_parquet(pa.py_buffer(self._path(entry).read_bytes()), columns, where)
        if table.num_rows != entry.rows:
            raise StoreCorrupt(f"{where}: {table.num_rows} rows, its receipt says {entry.rows}")
        return table

    def _entry(self, receipt: Receipt, role: Role) -> FileEntry:
        entry = next((entry for entry in receipt.files if entry.role == role), None)
        if entry is None:
            raise StoreCorrupt(f"{self.ref}: shard {receipt.shard} has no {role}")
        return entry

    def _path(self, entry: FileEntry) -> Path:
        """The file, its bytes hashed once for each Version object."""
        if entry.path not in self._verified:
            self._verified[entry.path] = verified_file(self.files, self.folder, entry)
        return self._verified[entry.path]


def verified_file(files: Files, folder: str, entry: FileEntry) -> Path:
    """A local file whose size and sha256 are those of `entry`. Raises StoreCorrupt naming it."""
    import hashlib

    key = f"{folder}/{entry.path}"
    try:
        path = files.fetch(key, entry.sha256, entry.bytes)
        size = path.stat().st_size
    except FileNotFoundError:
        raise StoreCorrupt(f"{files.uri}/{key} is missing; its receipt names it with {entry.bytes} bytes") from None
    if size != entry.bytes:
        raise StoreCorrupt(f"{files.uri}/{key}: {size} bytes, its receipt says {entry.bytes}")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != entry.sha256:
        raise StoreCorrupt(f"{files.uri}/{key}: sha256 {digest[:16]}..., its receipt says {entry.sha256[:16]}...")
    return path


def read_manifest(files: Files, kind: str, version: str) -> Manifest | None:
    """The manifest of a version, or None where it is not sealed. Raises StoreCorrupt."""
    key = f"v/{kind}/{version}/manifest.json"
    try:
        data = files.read(key)
    except FileNotFoundError:
        return None
    manifest = parse_document(Manifest, data, f"{files.uri}/{key}")
    if manifest.version != version or manifest.kind != kind:
        raise StoreCorrupt(f"{files.uri}/{key} is the manifest of {manifest.kind}@{manifest.version}")
    return manifest
