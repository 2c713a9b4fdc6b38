"""Receipts: the commit of a shard. The first receipt of a shard counts, whoever wrote it."""

import logging
import re
import shutil
import time
from collections.abc import Container, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from lightgen.errors import StoreConflict, StoreCorrupt
from lightgen.storage.documents import check_receipt, parse_document, write_document
from lightgen.storage.refs import publish
from lightgen.storage.reuse import LentShard, link_shard
from lightgen.storage.shards import ShardOutput, write_shard
from lightgen.storage.store import Store, ref_of
from schemas.documents import Plan, Provenance, Receipt, Source
from schemas.ref import ArtifactRef

log = logging.getLogger(__name__)
RECEIPT = re.compile(r"^(\d{5})\.json\Z")


@dataclass(frozen=True)
class Origin:
    """What a worker's receipts say of where their shards come from."""

    parents: Sequence[ArtifactRef]
    provenance: Provenance

    @property
    def sources(self) -> list[Source]:
        """The versions that stand for the parents' contents."""
        return [Source(kind=one.kind, version=one.version, fingerprint=one.fingerprint) for one in self.parents]


def write_plan(store: Store, plan: Plan) -> None:
    """Begin a version, or go on with it. Raises StoreCorrupt where something else stands in its place."""
    key = f"{plan.folder}/plan.json"
    try:
        write_document(store.files, key, plan)
    except StoreConflict:
        raise StoreCorrupt(f"{key}: is not what its recipe gives; something else wrote it") from None


def finished(store: Store, plan: Plan, role: str = "") -> ArtifactRef | None:
    """The sealed version of `plan`, if there is one, published now where its writer was killed before that."""
    if store.find_sealed(plan) is None:
        return None
    manifest = store.manifest(plan.kind, plan.version)
    # A manifest that a killed writer linked must not vanish under the entry of the log.
    store.files.settle(plan.folder)
    publish(store.files, manifest, role)
    shutil.rmtree(store.scratch(plan), ignore_errors=True)
    return ref_of(store, manifest)


def done_shards(store: Store, plan: Plan) -> set[int]:
    """The shards that have a receipt. Takes one listing."""
    found = map(RECEIPT.match, store.files.names(f"{plan.folder}/done"))
    return {int(name[1]) for name in found if name}


def read_receipts(store: Store, plan: Plan, known: Container[int] = ()) -> dict[int, Receipt]:
    """Receipts by shard, those of `known` shards left out. Raises StoreCorrupt for one that is not of this plan."""
    keys = [receipt_key(plan, shard) for shard in sorted(done_shards(store, plan)) if shard not in known]
    receipts = {}
    for key, data in zip(keys, store.files.read_many(keys), strict=True):
        receipt = parse_document(Receipt, data, key)
        if receipt.version != plan.version or receipt.shard >= plan.n_shards or key != receipt_key(plan, receipt.shard):
            raise StoreCorrupt(f"{key}: is the receipt of shard {receipt.shard} of {plan.kind}@{receipt.version}")
        receipts[receipt.shard] = receipt
    return receipts


def find_receipt(store: Store, plan: Plan, shard: int) -> Receipt | None:
    """The receipt of one shard, if it is done."""
    key = receipt_key(plan, shard)
    try:
        return parse_document(Receipt, store.files.read(key), key)
    except FileNotFoundError:
        return None


@dataclass(frozen=True)
class Stopwatch:
    """When the work on a shard began."""

    started_at: str
    began: float

    @staticmethod
    def start() -> "Stopwatch":
        """Now."""
        return Stopwatch(datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic())


def commit_shard(
    store: Store, plan: Plan, shard: int, output: ShardOutput | LentShard, origin: Origin, watch: Stopwatch
) -> Receipt:
    """Write a shard's files, then its receipt; where another worker was first, its receipt is returned."""
    provenance = origin.provenance
    store.files.create(f"{plan.folder}/provenance/{provenance.digest}.json", [provenance.canonical()])
    lent = isinstance(output, LentShard)
    written = link_shard(store.files, plan, shard, output) if lent else write_shard(store.files, plan, shard, output)
    receipt = Receipt(
        **written,
        version=plan.version,
        shard=shard,
        parents=origin.sources,
        provenance=provenance.digest,
        started_at=watch.started_at,
        seconds=round(time.monotonic() - watch.began, 3),
    )
    check_receipt(receipt, plan)
    try:
        write_document(store.files, receipt_key(plan, shard), receipt)
    except StoreConflict:
        first = find_receipt(store, plan, shard)
        assert first is not None, "a conflict means that it is there"
        return first
    return receipt


def receipt_key(plan: Plan, shard: int) -> str:
    """Key of the receipt of `shard`."""
    return f"{plan.folder}/done/{shard:05d}.json"
