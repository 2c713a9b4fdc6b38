"""CHECKPOINT and VAE: one row a tensor, so that a fingerprint names the weights and not a file's layout."""

import pyarrow as pa

SCHEMA = pa.schema(
    [
        pa.field("name", pa.string(), nullable=False),
        pa.field("dtype", pa.string(), nullable=False),
        pa.field("shape", pa.string(), nullable=False, metadata={"format": "sizes joined by commas"}),
        pa.field(
            "sha256", pa.string(), nullable=False, metadata={"of": "the tensor's bytes, little-endian, row-major"}
        ),
    ]
)
