"""PROMPTS: captions chosen for the teacher, no two near-duplicates; written by stages `select` and `recaption`."""

import pyarrow as pa

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False, metadata={"is": "content hash of the caption, its caption_id"}),
        pa.field("caption", pa.string(), nullable=False),
        pa.field("tokens", pa.int32(), nullable=False, metadata={"unit": "tokens of the student's text encoder"}),
        pa.field("source", pa.string(), nullable=False),
        pa.field("licence", pa.string(), nullable=False),
        pa.field("rank", pa.int32(), nullable=False, metadata={"is": "order of choice by k-center; 0 is the first"}),
        pa.field("novelty", pa.float32(), nullable=False, metadata={"is": "distance to the prompts chosen before"}),
        pa.field("image_id", pa.string(), metadata={"is": "id of the image that the caption was written for"}),
    ]
)

# Of stage `recaption`: one row an image, whose id the prompt's is made of.
RECAPTIONED = pa.schema(
    [
        *SCHEMA,
        pa.field("style", pa.string(), nullable=False, metadata={"is": "name of the style that was asked for"}),
        pa.field("original", pa.string(), nullable=False, metadata={"is": "the caption that the image came with"}),
        pa.field("answer", pa.string(), nullable=False, metadata={"is": "the model's own words; empty without one"}),
    ]
)
