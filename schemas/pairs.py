"""PAIRS: preference pairs of images; written by stage `pair` from scores alone, joins IMAGES by id.

The pixels stay with the IMAGES, which are parents of the pairs.
"""

import pyarrow as pa

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("caption", pa.string(), nullable=False),
        pa.field("winner_id", pa.string(), nullable=False, metadata={"is": "id of the image that is preferred"}),
        pa.field("loser_id", pa.string(), nullable=False, metadata={"is": "id of the other image"}),
        pa.field("winner_generator", pa.string(), nullable=False),
        pa.field("loser_generator", pa.string(), nullable=False),
        pa.field("winner_score", pa.float32(), nullable=False, metadata={"range": "0 to 1"}),
        pa.field("loser_score", pa.float32(), nullable=False, metadata={"range": "0 to 1"}),
        pa.field("margin", pa.float32(), nullable=False, metadata={"is": "lead of the winner in score"}),
        pa.field("host", pa.string(), nullable=False, metadata={"is": "where the winner was fetched from, or empty"}),
        pa.field("source", pa.string(), nullable=False, metadata={"is": "corpus of the winner's link, or empty"}),
    ]
)
