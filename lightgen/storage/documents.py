"""Read the store's JSON strictly: no duplicate keys, no NaN, no depth bombs, no unknown fields."""

import json
from collections.abc import Hashable
from typing import Any, TypeVar

from pydantic import ValidationError

from lightgen.errors import StoreCorrupt
from schemas.documents import Document

MAX_BYTES = 64 << 20
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


def _no_duplicates(pairs: list[tuple[Hashable, Any]]) -> dict[Hashable, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("duplicate key")
    return value


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
