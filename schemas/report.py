"""REPORT: one row for each judged image of an evaluation; written by stage `evaluate`."""

import pyarrow as pa

SCHEMA = pa.schema(
    [
        pa.field("model", pa.string(), nullable=False, metadata={"is": "name of the column in the report's table"}),
        pa.field("task", pa.string(), nullable=False, metadata={"values": "GenEval's six tasks"}),
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("caption", pa.string(), nullable=False),
        pa.field("sample", pa.int32(), nullable=False),
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("correct", pa.bool_(), nullable=False),
        pa.field("reason", pa.string(), nullable=False, metadata={"is": "why not, or empty"}),
        pa.field("image_sha256", pa.string(), nullable=False),
    ]
)
