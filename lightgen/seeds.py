"""Content hashes and seeds: every id and every random stream is a pure function of what it stands for."""

import hashlib

from schemas.canonical import canonical_json


def content_id(*parts: object) -> str:
    """32 hex digits that name `parts`: the id of a row. Parts are JSON values."""
    return hashlib.sha256(canonical_json(list(parts))).hexdigest()[:32]


def derive_seed(*parts: object) -> int:
    """A seed in [0, 2**63) for (run seed, stage, row id, ...): independent of batch, order and worker."""
    digest = hashlib.blake2b(canonical_json(list(parts)), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
