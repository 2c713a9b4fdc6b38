"""PAIRS: preference pairs in tar shards, written by stage `pair`.

A sample is `<id>.winner.<format>` (the bytes of the teacher's file, or the student's own sample, exact),
`<id>.loser.png` (exact) and `<id>.json`.
"""

import pyarrow as pa

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("caption", pa.string(), nullable=False),
        pa.field(
            "winner_id",
            pa.string(),
            nullable=False,
            metadata={"is": "id of the teacher's or real image, or of the sample"},
        ),
        pa.field("winner_format", pa.string(), nullable=False, metadata={"values": "png, webp, jpg"}),
        pa.field("winner_seed", pa.int64(), metadata={"is": "seed of the student's own sample; null: another drew it"}),
        pa.field("loser_seed", pa.int64(), nullable=False, metadata={"is": "seed of the student's own sample"}),
        pa.field("winner_score", pa.float32(), nullable=False, metadata={"range": "0 to 1"}),
        pa.field("loser_score", pa.float32(), nullable=False, metadata={"range": "0 to 1"}),
        pa.field("winner_verdict", pa.string(), nullable=False, metadata={"format": "the judge's answer as JSON"}),
        pa.field("loser_verdict", pa.string(), nullable=False, metadata={"format": "the judge's answer as JSON"}),
        pa.field("judge", pa.string(), nullable=False),
    ]
)
