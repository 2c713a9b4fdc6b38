"""One spelling of a JSON value, so that equal values have equal digests."""

import json


def canonical_json(value: object) -> bytes:
    """UTF-8 JSON with sorted keys and no spaces; NaN and infinities raise ValueError."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
