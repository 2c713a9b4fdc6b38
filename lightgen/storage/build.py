"""Build a version: plan, then shards with receipts, then the manifest, then the log. Safe to kill at any moment.

Whoever calls, and however often: a sealed version is returned at once, a finished shard is never computed again, and
two runs of one recipe share the work. See docs/storage.md.
"""

import ast
import hashlib
import importlib
import logging
import pkgutil
import random
import re
import shutil
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import pyarrow as pa
from pydantic import BaseModel

from lightgen.errors import ConfigError, StoreConflict, StoreCorrupt
from lightgen.progress import SILENT, Progress
from lightgen.storage.commit import commit
from lightgen.storage.documents import check_plan, parse_document, write_document
from lightgen.storage.refs import publish
from lightgen.storage.shards import Reject, ShardOutput, write_shard
from lightgen.storage.store import Store, ref_of
from schemas.canonical import canonical_json
from schemas.documents import Parent, Plan, Receipt
from schemas.ref import ArtifactRef, Kind

__all__ = [
    "Plan",
    "Reject",
    "ShardOutput",
    "build",
    "code_digest",
    "finished",
    "make_plan",
    "read_receipts",
    "rows_done",
]
log = logging.getLogger(__name__)
RECEIPT = re.compile(r"^(\d{5})\.json\Z")


def make_plan(
    kind: Kind,
    stage: str,
    modules: Sequence[ModuleType | str],
    config: BaseModel,
    seed: int,
    parents: Sequence[ArtifactRef],
    n_shards: int,
    models: Sequence[dict] = (),
    extra: dict | None = None,
) -> Plan:
    """The recipe of a version. Raises ConfigError for values that are not JSON.

    `modules` are those whose code decides the content; a package stands for all below it.
    """
    try:
        plan = Plan(
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
        canonical_json(plan.model_dump(mode="json"))
    except ValueError as error:
        raise ConfigError(f"the recipe of {kind} cannot be written down as JSON: {error}") from error
    check_plan(plan)
    return plan


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
    make_shard: Callable[[int], ShardOutput],
    schema: pa.Schema,
    *,
    max_reject_fraction: float = 0.05,
    progress: Progress = SILENT,
    unit: str = "rows",
) -> ArtifactRef:
    """The sealed version of `plan`, computing only what is missing.

    Progress counts the rows of the first parent, or `extra["rows"]` of the plan. Raises TooManyRejects (nothing is
    published, finished shards stay), SchemaMismatch, DuplicateKey, StoreError.
    """
    if done := finished(store, plan):
        return done
    _write_plan(store, plan)
    # A stage of one shard shows its own, finer progress.
    _make_missing(store, plan, make_shard, schema, progress if plan.n_shards > 1 else SILENT, unit)
    commit(store, plan, read_receipts(store, plan), max_reject_fraction)
    done = finished(store, plan)
    assert done is not None, "commit has sealed it"
    return done


def finished(store: Store, plan: Plan) -> ArtifactRef | None:
    """The sealed version of `plan`, if there is one, published now where its writer was killed before that.

    Stages that load a large model ask this first; `build` does so anyway.
    """
    if store.find_sealed(plan) is None:
        return None
    manifest = store.manifest(plan.kind, plan.version)
    # A manifest that a killed writer linked must not vanish under the entry of the log.
    store.files.settle(f"v/{plan.kind}/{plan.version}")
    publish(store.files, manifest)
    shutil.rmtree(store.scratch(plan), ignore_errors=True)
    return ref_of(store, manifest)


def read_receipts(store: Store, plan: Plan) -> dict[int, Receipt]:
    """Receipts by shard. Raises StoreCorrupt for one that is not a receipt of this plan."""
    base = f"v/{plan.kind}/{plan.version}/done"
    keys = [f"{base}/{name}" for name in store.files.names(base) if RECEIPT.match(name)]
    receipts = {}
    for key, data in zip(keys, store.files.read_many(keys), strict=True):
        receipt = parse_document(Receipt, data, key)
        if (
            receipt.version != plan.version
            or receipt.shard >= plan.n_shards
            or key != _receipt_key(plan, receipt.shard)
        ):
            raise StoreCorrupt(f"{key}: is the receipt of shard {receipt.shard} of {plan.kind}@{receipt.version}")
        receipts[receipt.shard] = receipt
    return receipts


def rows_done(store: Store, plan: Plan) -> int:
    """Rows of the finished shards of a version that is not sealed yet."""
    return sum(receipt.rows_in for receipt in read_receipts(store, plan).values())


def _write_plan(store: Store, plan: Plan) -> None:
    key = f"v/{plan.kind}/{plan.version}/plan.json"
    try:
        write_document(store.files, key, plan)
    except StoreConflict:
        raise StoreCorrupt(f"{key}: is not what its recipe gives; something else wrote it") from None


def _make_missing(
    store: Store,
    plan: Plan,
    make_shard: Callable[[int], ShardOutput],
    schema: pa.Schema,
    progress: Progress,
    unit: str,
) -> None:
    done = read_receipts(store, plan)
    total = plan.parents[0].rows if plan.parents else int(str(plan.extra.get("rows", 0)))
    progress.start(plan.stage, total, unit, sum(receipt.rows_in for receipt in done.values()))
    missing = [shard for shard in range(plan.n_shards) if shard not in done]
    if done and missing:
        log.info("%s: %d of %d shards are there already", plan.stage, len(done), plan.n_shards)
    # Two workers of one recipe then meet rarely on one shard; no result depends on the order.
    random.shuffle(missing)
    for shard in missing:
        receipt = _make_one(store, plan, shard, make_shard, schema)
        progress.advance(receipt.rows_in)
    progress.finish()


def _make_one(
    store: Store, plan: Plan, shard: int, make_shard: Callable[[int], ShardOutput], schema: pa.Schema
) -> Receipt:
    key = _receipt_key(plan, shard)
    try:
        return parse_document(Receipt, store.files.read(key), key)
    except FileNotFoundError:
        pass
    started_at, began = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
    output = make_shard(shard)
    receipt = write_shard(store.files, plan, shard, output, schema, started_at, time.monotonic() - began)
    try:
        write_document(store.files, key, receipt)
    except StoreConflict:
        return parse_document(Receipt, store.files.read(key), key)  # another worker was first; its shard counts
    return receipt


def _receipt_key(plan: Plan, shard: int) -> str:
    return f"v/{plan.kind}/{plan.version}/done/{shard:05d}.json"
