"""Reading refused rows of a version, only as many as are asked for."""

from collections.abc import Sequence

import pyarrow.compute as pc

from lightgen.storage.version import Version


def reject_examples(version: Version, reasons: Sequence[str], limit: int) -> dict[str, list[dict[str, str]]]:
    """The first `limit` refused rows of each reason: id, reason, detail and row as JSON.

    Receipts say which shards hold a reason, so no other shard is read; memory is that of one shard's rejects.
    """
    found: dict[str, list[dict[str, str]]] = {reason: [] for reason in reasons}
    for receipt in version.manifest.shards:
        wanted = [r for r in reasons if receipt.reject_reasons.get(r) and len(found[r]) < limit]
        if not wanted:
            continue
        table = version.rejects(receipt.shard)
        for reason in wanted:
            rows = table.filter(pc.field("reason") == reason).slice(0, limit - len(found[reason]))
            found[reason] += rows.to_pylist()
    return found
