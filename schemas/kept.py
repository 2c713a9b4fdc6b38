"""KEPT: which images pass, with every score a threshold looked at; written by stage `dedup`, joins IMAGES by id."""

import pyarrow as pa

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False, metadata={"is": "id of the image"}),
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("caption", pa.string(), nullable=False),
        pa.field("phash", pa.uint64(), nullable=False, metadata={"is": "64-bit DCT perceptual hash"}),
        pa.field(
            "contrast",
            pa.float32(),
            nullable=False,
            metadata={"is": "greatest standard deviation of red, green and blue, 0 to 0.5"},
        ),
        pa.field("nearest_distance", pa.int32(), nullable=False, metadata={"unit": "bits; 65 where there is no other"}),
        pa.field("nearest_id", pa.string(), nullable=False, metadata={"is": "the image at that distance, or empty"}),
    ]
)
