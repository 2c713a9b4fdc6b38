"""Read the store's JSON strictly: no duplicate keys, no NaN, no depth bombs, no unknown fields; write none too long."""

import json
from collections.abc import Hashable
from typing import Any, TypeVar

from pydantic import ValidationError

from lightgen.errors import ConfigError, StoreCorrupt, StoreError
from lightgen.storage.files import Files, Outcome
from schemas.documents import Document, Plan, Receipt

MAX_BYTES = 64 << 20  # of one document, for readers and writers
RECEIPT_BYTES = 2 << 10  # what a receipt takes in a manifest, by which plans are checked
DocumentT = TypeVar("DocumentT", bound=Document)


def parse_document(model: type[DocumentT], data: bytes, where: str) -> DocumentT:
    """The document in `data`. Raises StoreCorrupt naming the file and the field."""
    if len(data) > MAX_BYTES:
        raise StoreCorrupt(f"{where}: {len(data)} bytes, more than {MAX_BYTES} of any document")
    try:
        value = json.loads(data.decode(), object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise StoreCorrupt(f"{where}: field {field}: {first['msg']}") from error
    except (ValueError, RecursionError) as error:
        raise StoreCorrupt(f"{where}: not a document of the store: {str(error)[:200]}") from error


def write_document(files: Files, key: str, document: Document) -> Outcome:
    """Create `key`. Raises StoreError for a document that no reader would take, and as `Files.create` does."""
    data = document.canonical()
    if len(data) > MAX_BYTES:
        raise StoreError(f"{key}: {len(data):,} bytes, more than the {MAX_BYTES:,} of any document; it was not written")
    return files.create(key, [data])


def check_plan(plan: Plan) -> None:
    """Raises ConfigError where the plan, or the manifest of so many shards, would be too long a document."""
    most = _room(plan) // RECEIPT_BYTES
    if most < 1:
        raise ConfigError(f"the recipe of {plan.kind} takes {len(plan.canonical()):,} bytes as JSON; make it shorter")
    if plan.n_shards > most:
        raise ConfigError(f"{plan.kind} of {plan.n_shards:,} shards: at most {most:,} fit a manifest; make them larger")


def check_receipt(receipt: Receipt, plan: Plan) -> None:
    """Raises StoreError where a manifest of such receipts would be too long a document: said at the first shard."""
    share, taken = _room(plan) // plan.n_shards, len(receipt.canonical())
    if taken > share:
        raise StoreError(
            f"{plan.kind} shard {receipt.shard}: its receipt takes {taken:,} bytes, and {plan.n_shards:,} of those do "
            f"not fit a manifest of {MAX_BYTES:,}. Make shards larger, or their files and reasons of rejects fewer"
        )


def _room(plan: Plan) -> int:
    """Bytes of a manifest that are left for receipts, beside the plan and the sums."""
    return MAX_BYTES - len(plan.canonical()) - 2 * RECEIPT_BYTES


def _no_duplicates(pairs: list[tuple[Hashable, Any]]) -> dict[Hashable, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("duplicate key")
    return value


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
