"""Content hashes and seeds: every id and every random stream is a pure function of what it stands for."""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions when it is imported, where pyright does not see them.

import hashlib
import itertools

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import UInt8

from schemas.canonical import canonical_json


def content_id(*parts: object) -> str:
    """32 hex digits that name `parts`: the id of a row. Parts are JSON values."""
    return hashlib.sha256(canonical_json(list(parts))).hexdigest()[:32]


def content_ids(kind: str, texts: pa.LargeStringArray) -> pa.StringArray:
    """`content_id(kind, text)` of each text, none of which is null."""
    written = pc.replace_substring(pc.replace_substring(texts, "\\", "\\\\"), '"', '\\"')
    head, end, none = (pa.scalar(text, pa.large_string()) for text in (f'["{kind}","', '"]', ""))
    digests = b"".join(sha256_of_each(pc.binary_join_element_wise(head, written, end, none)))
    ids = hex_texts(np.frombuffer(digests, np.uint8).reshape(-1, 32)[:, :16])
    # JSON writes these in ways of their own.
    control = pc.match_substring_regex(texts, "[\\x00-\\x1f]")
    others = [content_id(kind, text) for text in texts.filter(control).to_pylist()]
    return pc.replace_with_mask(ids, control, pa.array(others, pa.string()))


def sha256_of_each(values: pa.LargeBinaryArray | pa.LargeStringArray) -> list[bytes]:
    """The digest of each value, none of which is null."""
    if not len(values):
        return []
    _, offsets, data = values.buffers()
    ends = np.frombuffer(offsets, np.int64)[values.offset : values.offset + len(values) + 1].tolist()
    view = memoryview(data if data is not None else b"")
    return [hashlib.sha256(view[start:end]).digest() for start, end in itertools.pairwise(ends)]


def hex_texts(rows: UInt8[np.ndarray, "n bytes"]) -> pa.StringArray:
    """Each row of bytes as hexadecimal digits."""
    digits = np.frombuffer(np.ascontiguousarray(rows).tobytes().hex().encode(), np.uint8)
    offsets = np.arange(len(rows) + 1, dtype=np.int32) * np.int32(2 * rows.shape[1])
    return pa.StringArray.from_buffers(len(rows), pa.py_buffer(offsets), pa.py_buffer(digits))


def derive_seed(*parts: object) -> int:
    """A seed in [0, 2**63) for (run seed, stage, row id, ...): independent of batch, order and worker."""
    digest = hashlib.blake2b(canonical_json(list(parts)), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
