"""REFERENCE: errors of the frozen reference model on preference pairs; written by stage `reference`."""

import pyarrow as pa

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("pair_id", pa.string(), nullable=False),
        pa.field("draw", pa.int32(), nullable=False, metadata={"is": "number of the mask and noise, from 0"}),
        pa.field("winner_error", pa.float32(), nullable=False, metadata={"is": "mean error of the prediction"}),
        pa.field("loser_error", pa.float32(), nullable=False, metadata={"is": "mean error of the prediction"}),
    ]
)
