"""REJECTS: rows a stage refused, each with its reason; lies beside the data of every shard."""

import pyarrow as pa

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False, metadata={"values": "closed set of the stage, snake_case"}),
        pa.field("detail", pa.string(), nullable=False, metadata={"limit": "500 characters"}),
        pa.field("row", pa.string(), nullable=False, metadata={"format": "the refused row as JSON"}),
    ]
)
