"""Makes a version: plan first, then shards with a receipt each, the manifest last. A kill loses at most one shard."""

import ast
import hashlib
import importlib
import logging
import pkgutil
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
from pydantic import BaseModel

from lightgen.errors import DuplicateKey, StoreConflict, StoreCorrupt, TooManyRejects, UnsafePath
from lightgen.progress import SILENT, Progress
from lightgen.storage import refs, tar
from lightgen.storage.digests import DIGESTS, fingerprint_of_table, row_digests
from lightgen.storage.documents import parse_document
from lightgen.storage.files import Chunk, Files
from lightgen.storage.parquet import conform, read_parquet, schema_digest, write_parquet
from lightgen.storage.store import Store
from lightgen.storage.version import Version, verified_file
from schemas import rejects as rejects_schema
from schemas.canonical import canonical_json
from schemas.documents import FileEntry, Manifest, Parent, Plan, Receipt, Role, Rows
from schemas.ref import ArtifactRef, Kind

log = logging.getLogger(__name__)

RECEIPT = re.compile(r"^(\d{5})\.json$")
KEY = re.compile(r"^[A-Za-z0-9._-]{1,200}$")
INDEX = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("extension", pa.string(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False, metadata={"unit": "bytes from the start of the tar"}),
        pa.field("size", pa.int64(), nullable=False, metadata={"unit": "bytes"}),
    ]
)
FOLDERS: dict[Role, str] = {
    "table": "data",
    "tar": "data",
    "index": "index",
    "digests": "digests",
    "rejects": "rejects",
    "file": "files",
}


@dataclass(frozen=True)
class Reject:
    """One refused row."""

    id: str
    reason: str
    detail: str
    row: dict[str, Any]


@dataclass(frozen=True)
class ShardOutput:
    """What a stage made of one shard; rows_in = rows of the table + rejects."""

    table: pa.Table
    rows_in: int
    rejects: Sequence[Reject] = ()
    blobs: Sequence[Mapping[str, bytes]] | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class _NewFile:
    role: Role
    name: str
    chunks: Sequence[Chunk]
    rows: int


MakeShard = Callable[[int], ShardOutput]


def make_plan(
    kind: Kind,
    stage: str,
    modules: Sequence[ModuleType | str],
    config: BaseModel,
    seed: int,
    parents: Sequence[ArtifactRef],
    n_shards: int,
    models: Sequence[dict[str, Any]] = (),
    extra: dict[str, Any] | None = None,
) -> Plan:
    """The recipe of a version; `modules` (a package stands for all below it) do the work, their code names it too."""
    return Plan(
        kind=kind,
        stage=stage,
        code=code_digest(modules),
        config=config.model_dump(mode="json"),
        seed=seed,
        models=list(models),
        parents=[Parent(**parent.model_dump(exclude={"uri"})) for parent in parents],
        n_shards=n_shards,
        extra=extra or {},
    )


def code_digest(modules: Sequence[ModuleType | str]) -> str:
    """Digest of what the modules do: of their syntax trees, so comments, docstrings and layout do not count."""
    loaded = [importlib.import_module(module) if isinstance(module, str) else module for module in modules]
    names = sorted({name for module in loaded for name in _with_submodules(module)})
    digest = hashlib.sha256()
    for name in names:
        path = importlib.import_module(name).__file__
        assert path is not None, f"{name} has no source file"
        digest.update(f"{name}\n{_meaning(Path(path).read_text(encoding='utf-8'))}\n".encode())
    return digest.hexdigest()


def _with_submodules(module: ModuleType) -> list[str]:
    if not hasattr(module, "__path__"):
        return [module.__name__]
    below = [info.name for info in pkgutil.walk_packages(module.__path__, f"{module.__name__}.")]
    return [module.__name__, *below]


def _meaning(source: str) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            # A string that stands alone is a docstring.
            node.body = [  # pyright: ignore[reportAttributeAccessIssue]
                line for line in body if not (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant))
            ]
    return ast.dump(tree)


def build(
    store: Store,
    plan: Plan,
    make_shard: MakeShard,
    schema: pa.Schema,
    *,
    max_reject_fraction: float = 0.05,
    progress: Progress = SILENT,
    unit: str = "rows",
) -> ArtifactRef:
    """The sealed version of `plan`: at once if it is there, else by making the shards that have no receipt."""
    if sealed := store.find_sealed(plan):
        return sealed
    folder = f"v/{plan.kind}/{plan.version}"
    _create_plan(store.files, folder, plan)
    receipts = _receipts(store.files, folder, plan)
    missing = [shard for shard in range(plan.n_shards) if shard not in receipts]
    # A stage of one shard shows its own, finer progress.
    shown = progress if plan.n_shards > 1 else SILENT
    shown.start(plan.stage, plan.parents[0].rows if plan.parents else int(str(plan.extra.get("rows", 0))), unit)
    shown.advance(sum(receipt.rows_in for receipt in receipts.values()))
    for shard in missing:
        receipts[shard] = _build_shard(store.files, folder, plan, shard, make_shard, schema)
        shown.advance(receipts[shard].rows_in)
    shown.finish()
    manifest = _manifest(store.files, folder, plan, [receipts[shard] for shard in range(plan.n_shards)])
    _check_rejects(store, folder, manifest, max_reject_fraction)
    try:
        store.files.create(f"{folder}/manifest.json", [manifest.canonical()])
    except StoreConflict as error:
        raise StoreCorrupt(f"{store.uri}/{folder}/manifest.json is not what its receipts give") from error
    refs.append(store.files, plan.kind, manifest, "publish")
    return Version(store.files, folder, manifest).ref


def _create_plan(files: Files, folder: str, plan: Plan) -> None:
    try:
        files.create(f"{folder}/plan.json", [plan.canonical()])
    except StoreConflict as error:
        raise StoreCorrupt(f"{files.uri}/{folder}/plan.json is not what this recipe gives; it was damaged") from error


def _receipts(files: Files, folder: str, plan: Plan) -> dict[int, Receipt]:
    """Receipts by shard; each was fsynced before it could be seen."""
    names = [name for name in files.names(f"{folder}/done") if RECEIPT.match(name)]
    found: dict[int, Receipt] = {}
    for name, data in zip(names, files.read_many([f"{folder}/done/{name}" for name in names]), strict=True):
        where = f"{files.uri}/{folder}/done/{name}"
        receipt = parse_document(Receipt, data, where)
        if name != f"{receipt.shard:05d}.json" or receipt.version != plan.version or receipt.shard >= plan.n_shards:
            raise StoreCorrupt(f"{where} is the receipt of shard {receipt.shard} of {receipt.version}")
        found[receipt.shard] = receipt
    if found:
        # Whoever wrote them may have been killed between link and fsync of the folder.
        files.settle(f"{folder}/done")
    return found


def _build_shard(
    files: Files, folder: str, plan: Plan, shard: int, make_shard: MakeShard, schema: pa.Schema
) -> Receipt:
    began, started = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
    where = f"{plan.kind}@{plan.version[:12]} shard {shard}"
    made = make_shard(shard)
    if made.rows_in != made.table.num_rows + len(made.rejects):
        raise AssertionError(f"{where}: {made.rows_in} in, {made.table.num_rows} out, {len(made.rejects)} rejected")
    table = conform(made.table, schema, where)
    entries = [_write(files, folder, plan, shard, new) for new in _new_files(table, made, where)]
    receipt = Receipt(
        version=plan.version,
        shard=shard,
        schema_sha256=schema_digest(schema),
        files=entries,
        rows_in=made.rows_in,
        rows_out=table.num_rows,
        rows_rejected=len(made.rejects),
        reject_reasons=dict(sorted(Counter(reject.reason for reject in made.rejects).items())),
        started_at=started,
        seconds=round(time.monotonic() - began, 3),
    )
    key = f"{folder}/done/{shard:05d}.json"
    try:
        files.create(key, [receipt.canonical()])
    except StoreConflict:
        # Another worker won; its files are the shard.
        return parse_document(Receipt, files.read(key), f"{files.uri}/{key}")
    return receipt


def _new_files(table: pa.Table, made: ShardOutput, where: str) -> list[_NewFile]:
    keys = _keys(table, where)
    new = [_NewFile("table", "parquet", [write_parquet(table)], table.num_rows)]
    blob_digests = None
    if made.blobs is not None:
        chunks, index = pack_tar(keys, made.blobs)
        new.append(_NewFile("tar", "tar", chunks, len(index)))
        index_table = pa.Table.from_pylist(index, INDEX)
        new.append(_NewFile("index", "parquet", [write_parquet(index_table)], index_table.num_rows))
        blob_digests = [{ext: hashlib.sha256(data).digest() for ext, data in blobs.items()} for blobs in made.blobs]
    digests = pa.table({"key": keys, "digest": row_digests(table, blob_digests)}, schema=DIGESTS)
    new.append(_NewFile("digests", "parquet", [write_parquet(digests)], table.num_rows))
    rejects = pa.Table.from_pylist([_reject_row(reject) for reject in made.rejects], rejects_schema.SCHEMA)
    new.append(_NewFile("rejects", "parquet", [write_parquet(rejects)], rejects.num_rows))
    return new + [_NewFile("file", name, [data], 0) for name, data in sorted(made.files.items())]


def _keys(table: pa.Table, where: str) -> list[str]:
    """The id of every row; a kind without ids (tensors) is keyed by its first column."""
    name = "id" if "id" in table.column_names else table.column_names[0]
    keys = table.column(name).to_pylist()
    twice = next((key for key, count in Counter(keys).items() if count > 1), None)
    if twice is not None:
        places = [i for i, key in enumerate(keys) if key == twice]
        raise DuplicateKey(f"{where}: {name} {twice!r} stands in rows {places[0]} and {places[1]}")
    wrong = next((key for key in keys if not KEY.match(key)), None)
    if wrong is not None:
        raise UnsafePath(f"{where}: {name} {wrong[:80]!r} is no key: 1 to 200 letters, digits, '.', '_' and '-'")
    return keys


def pack_tar(
    keys: Sequence[str], blobs: Sequence[Mapping[str, bytes]]
) -> tuple[list[bytes], list[dict[str, str | int]]]:
    """Chunks of a ustar with the members of every sample side by side, and the rows of its index."""
    if len(keys) != len(blobs):
        raise AssertionError(f"{len(keys)} rows, {len(blobs)} samples")
    chunks: list[bytes] = []
    index: list[dict[str, str | int]] = []
    position = 0
    for key, members in zip(keys, blobs, strict=True):
        tar.check_tar_key(key)
        for extension, data in sorted(members.items()):
            tar.check_extension(extension)
            head, tail = tar.header(f"{key}.{extension}".encode(), len(data)), tar.padding(len(data))
            index.append({"key": key, "extension": extension, "offset": position + len(head), "size": len(data)})
            chunks += (head, data, tail)
            position += len(head) + len(data) + len(tail)
    return [*chunks, tar.END], index


def _reject_row(reject: Reject) -> dict[str, str]:
    row = canonical_json(reject.row).decode("utf-8", "backslashreplace")
    return {"id": reject.id, "reason": reject.reason, "detail": reject.detail[:500], "row": row}


def _write(files: Files, folder: str, plan: Plan, shard: int, new: _NewFile) -> FileEntry:
    digest, size = hashlib.sha256(), 0
    for chunk in new.chunks:
        digest.update(chunk)
        size += len(chunk)
    sha256 = digest.hexdigest()
    path = f"{FOLDERS[new.role]}/part-{shard:05d}-of-{plan.n_shards:05d}.{sha256[:16]}.{new.name}"
    files.create(f"{folder}/{path}", new.chunks)
    return FileEntry(role=new.role, name=new.name, path=path, bytes=size, sha256=sha256, rows=new.rows)


def _manifest(files: Files, folder: str, plan: Plan, receipts: list[Receipt]) -> Manifest:
    """Made from plan and receipts only, so that everyone who commits writes the same bytes."""
    _check_sizes(files, folder, receipts)
    digests = pa.concat_tables([_digests(files, folder, receipt) for receipt in receipts])
    out, rejected = sum(r.rows_out for r in receipts), sum(r.rows_rejected for r in receipts)
    reasons = sum((Counter(receipt.reject_reasons) for receipt in receipts), Counter())
    return Manifest(
        kind=plan.kind,
        version=plan.version,
        fingerprint=fingerprint_of_table(digests),
        plan=plan,
        shards=receipts,
        rows=Rows(taken=out + rejected, out=out, rejected=rejected),
        reject_reasons=dict(sorted(reasons.items())),
        bytes_total=sum(entry.bytes for receipt in receipts for entry in receipt.files),
    )


def _check_sizes(files: Files, folder: str, receipts: list[Receipt]) -> None:
    """Every file of every receipt is there, at its size."""
    there: dict[str, int] = {}
    for name in sorted(set(FOLDERS.values())):
        there |= {f"{name}/{file}": size for file, size in files.sizes(f"{folder}/{name}").items()}
    for receipt in receipts:
        for entry in receipt.files:
            if there.get(entry.path) != entry.bytes:
                raise StoreCorrupt(
                    f"{files.uri}/{folder}/{entry.path}: {there.get(entry.path, 'no')} bytes, the receipt of shard "
                    f"{receipt.shard} says {entry.bytes}. Remove done/{receipt.shard:05d}.json to make it again"
                )


def _digests(files: Files, folder: str, receipt: Receipt) -> pa.Table:
    entry = next(entry for entry in receipt.files if entry.role == "digests")
    path = verified_file(files, folder, entry)
    return read_parquet(pa.py_buffer(path.read_bytes()), ["digest"], f"{files.uri}/{folder}/{entry.path}")


def _check_rejects(store: Store, folder: str, manifest: Manifest, limit: float) -> None:
    taken, rejected = manifest.rows.taken, manifest.rows.rejected
    if not taken or rejected <= limit * taken:
        return
    version = Version(store.files, folder, manifest)
    first = {row["reason"]: row["detail"] for row in reversed(version.rejects().to_pylist())}
    top = sorted(manifest.reject_reasons.items(), key=lambda item: -item[1])[:5]
    reasons = "; ".join(f"{count} {reason} (for example: {first[reason]})" for reason, count in top)
    raise TooManyRejects(
        f"stage {manifest.plan.stage} refused {rejected} of {taken} rows, more than {limit:.0%}: {reasons}. "
        "Mend the input, or raise max_reject_fraction of the stage. Nothing was published"
    )
