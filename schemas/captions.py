"""CAPTIONS: cleaned captions of one or more corpora; written by stage `source`."""

import pyarrow as pa

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False, metadata={"is": "content hash of the cleaned caption"}),
        pa.field("caption", pa.string(), nullable=False),
        pa.field("tokens", pa.int32(), nullable=False, metadata={"unit": "tokens of the student's text encoder"}),
        pa.field("source", pa.string(), nullable=False),
        pa.field("licence", pa.string(), nullable=False),
    ]
)
