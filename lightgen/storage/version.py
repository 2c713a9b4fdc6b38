"""Reading a sealed version: every byte is checked against the manifest before it is used."""

import hashlib
from collections.abc import Collection, Iterator
from datetime import datetime
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from lightgen.errors import Evicted, RefNotFound, StoreCorrupt, StoreError
from lightgen.storage.files import Files
from lightgen.storage.parquet import read_parquet
from schemas.documents import FileEntry, FileRole, Manifest, Plan
from schemas.ref import ArtifactRef, Kind
from schemas.rejects import SCHEMA as REJECTS

PLAIN = ("file", "extra")
EVICTED = "evicted.json"  # stands in the folder of a version whose image files were evicted


class Version:
    """One sealed version of an artifact."""

    def __init__(self, files: Files, manifest: Manifest) -> None:
        self.files = files
        self.manifest = manifest
        self._verified: set[str] = set()

    @property
    def ref(self) -> ArtifactRef:
        """The reference that names it."""
        m = self.manifest
        return ArtifactRef(
            kind=m.kind,
            uri=self.files.uri,
            version=m.version,
            content=m.content,
            rows=m.rows.out,
            fingerprint=m.fingerprint,
        )

    @property
    def plan(self) -> Plan:
        """Its recipe."""
        return self.manifest.plan

    @property
    def parents(self) -> list[ArtifactRef]:
        """What it was made from, in the same store: the versions that stood for the parents' contents."""
        sources = self.manifest.shards[0].parents
        return [
            ArtifactRef(
                kind=parent.kind,
                uri=self.files.uri,
                version=source.version,
                content=parent.content,
                rows=parent.rows,
                fingerprint=source.fingerprint,
            )
            for parent, source in zip(self.plan.parents, sources, strict=True)
        ]

    def parent(self, kind: Kind, which: int = 0) -> ArtifactRef:
        """The parent of that kind; `which` counts where there are several. Raises StoreCorrupt."""
        found = [one for one in self.parents if one.kind == kind]
        if which >= len(found):
            raise StoreCorrupt(
                f"{self.ref} has {len(found)} {kind} among its parents; it was written by something else"
            )
        return found[which]

    @property
    def n_shards(self) -> int:
        """Number of shards."""
        return self.plan.n_shards

    @property
    def rows(self) -> int:
        """Rows that passed."""
        return self.manifest.rows.out

    @property
    def seconds(self) -> float:
        """Wall seconds of its shards, added up."""
        return sum(receipt.seconds for receipt in self.manifest.shards)

    @property
    def last_work(self) -> datetime:
        """When work on the shard begun last was begun, to the second."""
        return max(datetime.fromisoformat(receipt.started_at) for receipt in self.manifest.shards)

    @property
    def reject_reasons(self) -> dict[str, int]:
        """Rows refused, by reason."""
        return dict(self.manifest.reject_reasons)

    @property
    def rows_reused(self) -> int:
        """Rows that were taken over from other versions, not made again."""
        return sum(receipt.rows_reused for receipt in self.manifest.shards)

    @property
    def bytes_total(self) -> int:
        """Bytes of all its files."""
        return self.manifest.bytes_total

    @cached_property
    def evicted(self) -> bool:
        """Whether its image files were deleted on purpose; see `lightgen.storage.evict`."""
        return EVICTED in self.files.names(self.folder)

    @property
    def folder(self) -> str:
        """Key of its folder in the store."""
        return self.plan.folder

    def table(self, shard: int | None = None, columns: list[str] | None = None) -> pa.Table:
        """Rows of one shard, or of all in order. Raises StoreCorrupt, KeyError for an unknown column."""
        return self._tables("table", shard, columns)

    def rejects(self, shard: int | None = None) -> pa.Table:
        """Refused rows of one shard, or of all: id, reason, detail, row."""
        tables = [t for s in self._shards(shard) for t in self._tables_of("rejects", s, None)]
        return pa.concat_tables(tables) if tables else REJECTS.empty_table()

    def digests(self, shard: int | None = None) -> pa.Table:
        """Key and digest of each row, sorted by digest within a shard."""
        return self._tables("digests", shard, None)

    def index(self, shard: int | None = None) -> pa.Table:
        """Where each blob lies: key, extension, offset and size in bytes, sha256. Only for kinds with blobs."""
        return self._tables("index", shard, None)

    def samples(self, shard: int) -> Iterator[tuple[str, dict[str, bytes]]]:
        """Id and blobs by extension of each row of a shard, in table order."""
        tar = memoryview(self.read(self.entry("tar", shard)))
        last, sample = "", dict[str, bytes]()
        for row in self.index(shard).to_pylist():
            if row["key"] != last and sample:
                yield last, sample
                sample = {}
            last = row["key"]
            sample[row["extension"]] = bytes(tar[row["offset"] : row["offset"] + row["size"]])
        if sample:
            yield last, sample

    def members_of(self, shard: int, ids: Collection[str]) -> dict[str, dict[str, bytes]]:
        """The blobs of some rows of a shard by id and extension, each verified. Raises StoreCorrupt."""
        index = self.index(shard)
        wanted = index.filter(pc.is_in(index["key"], pa.array(list(ids), pa.string())))  # pyright: ignore[reportAttributeAccessIssue]
        key, found = f"{self.folder}/{self.entry('tar', shard).path}", dict[str, dict[str, bytes]]()
        for row in wanted.to_pylist():
            data = self._range(key, row["offset"], row["size"])
            if hashlib.sha256(data).digest() != row["sha256"]:
                raise StoreCorrupt(f"{key}: {row['key']}.{row['extension']} at {row['offset']} is damaged")
            found.setdefault(row["key"], {})[row["extension"]] = data
        return found

    def member(self, id: str, extension: str) -> bytes:
        """One blob, read from its place and verified by its own sha256. Raises RefNotFound, StoreCorrupt."""
        try:
            shard, offset, size, sha256 = self._members[id, extension]
        except KeyError:
            raise RefNotFound(f"{self.ref} has no {id}.{extension}") from None
        key = f"{self.folder}/{self.entry('tar', shard).path}"
        data = self._range(key, offset, size)
        if hashlib.sha256(data).digest() != sha256:
            raise StoreCorrupt(f"{key}: the {size} bytes of {id}.{extension} at {offset} are damaged")
        return data

    def file(self, name: str) -> Path:
        """A local path of a plain file such as `model.safetensors`, verified. Raises RefNotFound, StoreCorrupt.

        Where several shards have one of that name, it is the first shard's.
        """
        holders = [r.shard for r in self.manifest.shards for e in r.files if e.role in PLAIN and e.name == name]
        if not holders:
            raise RefNotFound(f"{self.ref} has no file {name!r}; it has {', '.join(self.file_names) or 'none'}")
        entry = next(e for e in self.manifest.shards[holders[0]].files if e.role in PLAIN and e.name == name)
        self.read(entry)
        return self.files.fetch(f"{self.folder}/{entry.path}", entry.sha256, entry.bytes)

    @property
    def file_names(self) -> list[str]:
        """Names of the plain files of all shards."""
        return sorted({entry.name for r in self.manifest.shards for entry in r.files if entry.role in PLAIN})

    def paths(self, role: FileRole = "table") -> list[str]:
        """Full paths or URLs of its files of one role, in order, for DuckDB, webdataset and other readers."""
        entries = [entry for receipt in self.manifest.shards for entry in receipt.files if entry.role == role]
        return [f"{self.files.uri}/{self.folder}/{entry.path}" for entry in entries]

    def entry(self, role: FileRole, shard: int, name: str | None = None) -> FileEntry:
        """The manifest's line about a file. Raises RefNotFound."""
        entries = self.manifest.shards[shard].files
        for entry in entries:
            if entry.role == role and name in (None, entry.name):
                return entry
        known = ", ".join(entry.name for entry in entries if entry.role == role) or "none"
        raise RefNotFound(f"{self.ref} has no {role} {name or ''} in shard {shard}; there is: {known}")

    def read(self, entry: FileEntry) -> pa.Buffer:
        """The bytes of a file, mapped into memory; hashed once for each Version object. Raises StoreCorrupt."""
        key = f"{self.folder}/{entry.path}"
        try:
            path = self.files.fetch(key, entry.sha256, entry.bytes)
        except FileNotFoundError:
            raise self._gone(key) from None
        size = path.stat().st_size
        if size != entry.bytes:
            raise StoreCorrupt(f"{key}: expected {entry.bytes} bytes, got {size}")
        data = pa.py_buffer(b"") if not size else pa.memory_map(str(path)).read_buffer()
        if key not in self._verified and hashlib.sha256(data).hexdigest() != entry.sha256:
            raise StoreCorrupt(f"{key}: sha256 is not that of the manifest; the file was changed")
        self._verified.add(key)
        return data

    def _range(self, key: str, offset: int, size: int) -> bytes:
        try:
            return self.files.read_range(key, offset, size)
        except FileNotFoundError:
            raise self._gone(key) from None

    def _gone(self, key: str) -> StoreError:
        """Why a file of the manifest is not there."""
        if self.evicted and key.endswith(".tar"):
            return Evicted(
                f"the images of {self.ref} were evicted (`lightgen gc --evict`); `lightgen run RECIPE --redraw` with "
                "the recipe that made them draws them again"
            )
        return StoreCorrupt(f"{key}: is missing")

    @cached_property
    def _members(self) -> dict[tuple[str, str], tuple[int, int, int, bytes]]:
        found = {}
        for shard in range(self.n_shards):
            columns = self.index(shard).to_pydict()
            places = zip(columns["offset"], columns["size"], columns["sha256"], strict=True)
            for pair, place in zip(zip(columns["key"], columns["extension"], strict=True), places, strict=True):
                found[pair] = (shard, *place)
        return found

    def _shards(self, shard: int | None) -> list[int]:
        if shard is not None and not 0 <= shard < self.n_shards:
            raise IndexError(f"{self.ref} has shards 0 to {self.n_shards - 1}, not {shard}")
        return list(range(self.n_shards)) if shard is None else [shard]

    def _tables(self, role: FileRole, shard: int | None, columns: list[str] | None) -> pa.Table:
        tables = [table for s in self._shards(shard) for table in self._tables_of(role, s, columns)]
        if not tables:
            raise RefNotFound(f"{self.ref} has no {role}")
        return pa.concat_tables(tables)

    def table_of(self, entry: FileEntry, columns: list[str] | None = None) -> pa.Table:
        """The rows of one Parquet file. Raises StoreCorrupt."""
        where = f"{self.folder}/{entry.path}"
        table = read_parquet(self.read(entry), columns, where)
        if table.num_rows != entry.rows:
            raise StoreCorrupt(f"{where}: expected {entry.rows} rows, got {table.num_rows}")
        return table

    def _tables_of(self, role: FileRole, shard: int, columns: list[str] | None) -> list[pa.Table]:
        return [self.table_of(entry, columns) for entry in self.manifest.shards[shard].files if entry.role == role]
