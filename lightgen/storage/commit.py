"""Commit a version: check what the receipts say, then create its manifest from plan and receipts alone."""

from lightgen.errors import StoreConflict, StoreCorrupt, TooManyRejects
from lightgen.storage.documents import write_document
from lightgen.storage.files import vanished
from lightgen.storage.merge import checked_fingerprint
from lightgen.storage.receipts import write_plan
from lightgen.storage.rejects import reject_examples
from lightgen.storage.store import Store
from lightgen.storage.version import Version
from schemas.documents import Manifest, Plan, Receipt, Rows, content_digest

EXAMPLE_CHARACTERS = 120


def commit(store: Store, plan: Plan, receipts: dict[int, Receipt], max_reject_fraction: float) -> Manifest:
    """Seal the version. Raises TooManyRejects, DuplicateKey, StoreCorrupt; then nothing is published."""
    base = plan.folder
    if missing := sorted(set(range(plan.n_shards)) - receipts.keys()):
        raise vanished(f"{base}/done/{missing[0]:05d}.json")
    draft = manifest_of(plan, receipts, "0" * 64)
    store.check_sizes(draft)
    _check_rejects(Version(store.files, draft), max_reject_fraction)
    manifest = manifest_of(plan, receipts, checked_fingerprint(Version(store.files, draft)))
    write_plan(store, plan)  # again, for a collection may have taken it
    # A receipt that another worker has linked, but not yet made durable, must not vanish under the manifest.
    for folder in ("done", "data", "index", "digests", "rejects", "files", "provenance"):
        store.files.settle(f"{base}/{folder}")
    try:
        write_document(store.files, f"{base}/manifest.json", manifest)
    except StoreConflict:
        raise StoreCorrupt(f"{base}/manifest.json: is not what the plan and the receipts give") from None
    return manifest


def manifest_of(plan: Plan, receipts: dict[int, Receipt], fingerprint: str) -> Manifest:
    """The manifest: no clock, no name of the committer, so that all committers write the same bytes."""
    shards = [receipts[shard] for shard in range(plan.n_shards)]
    reasons: dict[str, int] = {}
    for receipt in shards:
        for reason, count in receipt.reject_reasons.items():
            reasons[reason] = reasons.get(reason, 0) + count
    return Manifest(
        kind=plan.kind,
        version=plan.version,
        content=content_digest(shards),
        fingerprint=fingerprint,
        plan=plan,
        shards=shards,
        rows=Rows(
            taken=sum(receipt.rows_in for receipt in shards),
            out=sum(receipt.rows_out for receipt in shards),
            rejected=sum(receipt.rows_rejected for receipt in shards),
        ),
        reject_reasons=reasons,
        bytes_total=sum(entry.bytes for receipt in shards for entry in receipt.files),
    )


def _check_rejects(version: Version, max_reject_fraction: float) -> None:
    rows = version.manifest.rows
    if not rows.taken or rows.rejected / rows.taken <= max_reject_fraction:
        return
    top = sorted(version.reject_reasons.items(), key=lambda item: -item[1])[:5]
    examples = reject_examples(version, [reason for reason, _ in top], 1)
    lines = [
        f"  {count:>8} {reason}, such as {row['id']!r}: {row['detail'][:EXAMPLE_CHARACTERS]!r}"
        for reason, count in top
        for row in examples[reason]
    ]
    raise TooManyRejects(
        f"{version.plan.stage}: {rows.rejected} of {rows.taken} rows rejected, more than {max_reject_fraction:.0%}. "
        "Nothing was published. Repair the input, or raise max_reject_fraction:\n" + "\n".join(lines)
    )
