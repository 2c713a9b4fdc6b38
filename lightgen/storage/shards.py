"""Write one shard: its files named by content, then its receipt."""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions when it is imported, where pyright does not see them.

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lightgen.errors import DuplicateKey, LightgenError, UnsafePath
from lightgen.storage.digests import DIGESTS, fingerprint, row_digests
from lightgen.storage.files import Chunk, Files, sha256_of
from lightgen.storage.json_rows import json_rows
from lightgen.storage.parquet import conform, schema_digest, write_parquet
from lightgen.storage.tar import BLOCK, END, check_count, check_extension, check_size, check_tar_key, header, padding
from schemas.documents import FileEntry, FileRole, Plan
from schemas.rejects import SCHEMA as REJECTS

SIGNS = "[A-Za-z0-9._-]{1,200}"
KEY = re.compile(rf"^{SIGNS}\Z")
PLAIN_NAME = re.compile(r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}\Z")
DETAIL_CHARACTERS = 500
Texts = Sequence[str] | pa.Array
FOLDER: dict[FileRole, str] = {
    "table": "data",
    "tar": "data",
    "index": "index",
    "digests": "digests",
    "rejects": "rejects",
    "file": "files",
    "extra": "files",
}
INDEX = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False, metadata={"is": "id of the row"}),
        pa.field("extension", pa.string(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False, metadata={"unit": "bytes into the tar"}),
        pa.field("size", pa.int64(), nullable=False, metadata={"unit": "bytes"}),
        pa.field("sha256", pa.binary(32), nullable=False),
    ]
)


@dataclass(frozen=True)
class Reject:
    """A row that does not pass, with the reason; `row` is the refused row as a JSON value."""

    id: str
    reason: str
    detail: str
    row: dict


@dataclass(frozen=True)
class ShardOutput:
    """What a stage made of one shard: rows_in == table rows + rejects.

    `rejects` are such rows, or a table of them (see `reject_rows`). `schema` is the declared one, which the table must
    have. `blobs` holds {extension: bytes} for each row; they go to a
    tar whose sample keys are the ids. `files` are content: what they say changes what a child makes. `extras` are not:
    logs, samples, speed.
    """

    table: pa.Table
    rows_in: int
    schema: pa.Schema
    rejects: Sequence[Reject] | pa.Table = ()
    blobs: Sequence[Mapping[str, bytes]] | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)
    extras: Mapping[str, bytes] = field(default_factory=dict)
    rows_reused: int = 0


@dataclass(frozen=True)
class Tar:
    """A tar in pieces, with its digest, the index of its members and the digests of each row's blobs."""

    chunks: list[Chunk]
    sha256: str
    index: pa.Table
    digests: list[dict[str, bytes]]


def write_shard(files: Files, plan: Plan, shard: int, output: ShardOutput) -> dict[str, Any]:
    """Create the files of a shard; what its receipt must say of them. Raises StoreError."""
    where = f"{plan.kind} shard {shard}"
    table = conform(output.table, output.schema, where)
    assert output.rows_in == table.num_rows + len(output.rejects), f"{where}: rows_in is not rows + rejects"
    ids = check_keys(table, where)
    writer = _Writer(files, plan, shard)
    blob_digests = None
    if output.blobs is not None:
        tar = pack(ids, output.blobs, where)
        blob_digests = tar.digests
        writer.add("tar", "tar", tar.chunks, tar.index.num_rows, tar.sha256)
        writer.add_table("index", tar.index)
    writer.add_table("table", table)
    digests = row_digests(table, blob_digests)
    writer.add_table("digests", _digest_table(ids or [digest.hex() for digest in digests], digests))
    rejects: pa.Table = output.rejects if isinstance(output.rejects, pa.Table) else reject_table(output.rejects)
    if len(rejects):
        writer.add_table("rejects", rejects)
    writer.add_files("file", output.files)
    writer.add_files("extra", output.extras)
    reasons = Counter(rejects["reason"].to_pylist())
    return {
        "fingerprint": fingerprint(digests),
        "schema_sha256": schema_digest(output.schema),
        "files": writer.entries,
        "rows_in": output.rows_in,
        "rows_out": table.num_rows,
        "rows_rejected": len(rejects),
        "reject_reasons": dict(sorted(reasons.items())),
        "rows_reused": output.rows_reused,
    }


class _Writer:
    """Creates files of one shard under content names and remembers their entries."""

    def __init__(self, files: Files, plan: Plan, shard: int) -> None:
        self.files, self.plan, self.shard = files, plan, shard
        self.entries: list[FileEntry] = []

    def add(self, role: FileRole, name: str, chunks: Sequence[Chunk], rows: int, sha256: str | None = None) -> None:
        sha256 = sha256 or sha256_of(chunks)
        part = f"part-{self.shard:05d}-of-{self.plan.n_shards:05d}.{sha256[:16]}.{name}"
        path = f"{FOLDER[role]}/{part}"
        self.files.create(f"{self.plan.folder}/{path}", chunks, sha256)
        size = sum(len(chunk) for chunk in chunks)
        self.entries.append(FileEntry(role=role, name=name, path=path, bytes=size, sha256=sha256, rows=rows))

    def add_files(self, role: FileRole, named: Mapping[str, bytes]) -> None:
        for name, data in sorted(named.items()):
            if not PLAIN_NAME.match(name):
                raise UnsafePath(f"{self.plan.kind} shard {self.shard}: {name!r} is no plain name for a file")
            self.add(role, name, [data], 0)

    def add_table(self, role: FileRole, table: pa.Table) -> None:
        self.add(role, "parquet", [write_parquet(table)], table.num_rows)


def key_column(schema: pa.Schema) -> str | None:
    """The column that names rows: `id`, else `name` (tensors), else none (their digest names them)."""
    return next((name for name in ("id", "name") if name in schema.names), None)


def check_keys(table: pa.Table, where: str) -> list[str]:
    """The keys of all rows, or an empty list where the schema has none. Raises UnsafePath, DuplicateKey."""
    column = key_column(table.schema)
    if column is None:
        return []
    keys: list[str] = table.column(column).to_pylist()
    good = pc.and_(
        pc.match_substring_regex(table[column], f"^{SIGNS}$"), pc.match_substring_regex(table[column], "[^.]")
    )
    if not pc.all(good, min_count=0).as_py() or len(set(keys)) < len(keys):
        raise _bad_key(keys, where)
    return keys


def _bad_key(keys: Sequence[str], where: str) -> LightgenError:
    """What is wrong with the first key that is bad, or stands there again."""
    seen: dict[str, int] = {}
    for row, key in enumerate(keys):
        if not KEY.match(key) or not key.strip("."):
            return UnsafePath(f"{where} row {row}: bad key {key[:80]!r}: 1 to 200 of letters, digits, '.', '_' and '-'")
        if seen.setdefault(key, row) != row:
            return DuplicateKey(f"{where}: key {key!r} stands in row {seen[key]} and in row {row}")
    raise AssertionError("the keys are good")


def pack(ids: Sequence[str], blobs: Sequence[Mapping[str, bytes]], where: str) -> Tar:
    """The tar of a shard, samples in table order, members by extension; no payload is copied.

    Raises UnsafePath for a bad key or extension, ShardMalformed for too many members or one that is too large.
    """
    assert len(blobs) == len(ids), "one dict of blobs for each row with an id"
    members = [(key, name, sample[name]) for key, sample in zip(ids, blobs, strict=True) for name in sorted(sample)]
    check_count(len(members), where)
    chunks: list[Chunk] = []
    offsets, position = [], 0
    for key, extension, data in members:
        check_tar_key(key)
        check_extension(extension)
        check_size(f"{key}.{extension}", len(data), where)
        chunks += (header(f"{key}.{extension}".encode(), len(data)), data, padding(len(data)))
        offsets.append(position + BLOCK)
        position += BLOCK + len(data) + len(chunks[-1])
    chunks.append(END)
    # The digest of the file does not follow from those of its members. So both are computed, side by side: hashlib
    # lets go of the interpreter lock while it hashes a payload.
    with ThreadPoolExecutor(1) as beside:
        whole = beside.submit(sha256_of, chunks)
        digests = [hashlib.sha256(data).digest() for _, _, data in members]
    columns = {
        "key": [key for key, _, _ in members],
        "extension": [extension for _, extension, _ in members],
        "offset": offsets,
        "size": [len(data) for _, _, data in members],
        "sha256": digests,
    }
    in_order = iter(digests)
    by_row = [{extension: next(in_order) for extension in sorted(sample)} for sample in blobs]
    return Tar(chunks, whole.result(), pa.table(columns, schema=INDEX), by_row)


def reject_table(rejects: Sequence[Reject]) -> pa.Table:
    """Rejects as rows; text is made valid UTF-8 and details are cut, for a refused row may hold anything."""
    ids, reasons, details = ([getattr(one, name) for one in rejects] for name in ("id", "reason", "detail"))
    rows = [json.dumps(reject.row, sort_keys=True, default=str) for reject in rejects]
    return _rejects(ids, reasons, details, rows)


def reject_rows(ids: Texts, reasons: Texts, details: Texts, rows: pa.Table) -> pa.Table:
    """The same by the column: `rows` holds the refused rows."""
    return _rejects(ids, reasons, details, json_rows(rows))


def _rejects(ids: Texts, reasons: Texts, details: Texts, rows: Texts) -> pa.Table:
    told = pc.utf8_slice_codeunits(_text(details), 0, DETAIL_CHARACTERS)
    return pa.table([_text(ids), _text(reasons), told, _text(rows)], schema=REJECTS)


def _digest_table(keys: Sequence[str], digests: Sequence[bytes]) -> pa.Table:
    order = pa.array(np.argsort(np.array(digests, "S32"), kind="stable"))
    return pa.table([pa.array(keys, pa.string()), pa.array(digests, pa.binary(32))], schema=DIGESTS).take(order)


def _text(values: Texts) -> pa.StringArray:
    """Texts as a column, in which lone surrogates become question marks."""
    if not isinstance(values, Sequence):
        return values.cast(pa.string())
    return pa.array([value.encode("utf-8", "replace").decode() for value in values], pa.string())
