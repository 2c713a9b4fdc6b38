"""KEPT: which images pass the rules over their scores; written by stage `filter`, joins IMAGES and SCORES by id."""

import pyarrow as pa

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False, metadata={"is": "id of the image"}),
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("caption", pa.string(), nullable=False),
    ]
)
