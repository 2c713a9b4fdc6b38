"""IMAGES: drawn, fetched, given or joined, in tar shards (`<id>.<format>`, `<id>.json`); of more than one stage."""

import pyarrow as pa

SCHEMA = pa.schema(
    [
        pa.field(
            "id",
            pa.string(),
            nullable=False,
            metadata={"is": "hash of generator and checkpoint, prompt, index, seed and size"},
        ),
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("caption", pa.string(), nullable=False),
        pa.field("index", pa.int32(), nullable=False, metadata={"is": "number among the images of one prompt"}),
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("generator", pa.string(), nullable=False, metadata={"is": "kind of the generator, or who drew it"}),
        pa.field("width", pa.int32(), nullable=False, metadata={"unit": "px"}),
        pa.field("height", pa.int32(), nullable=False, metadata={"unit": "px"}),
        pa.field("format", pa.string(), nullable=False, metadata={"values": "png, webp, jpg"}),
        pa.field("image_sha256", pa.string(), nullable=False),
    ]
)

# Of services that draw other words than those they were given.
REVISED = pa.schema(
    [*SCHEMA, pa.field("revised", pa.string(), nullable=False, metadata={"is": "the words drawn; empty: the caption"})]
)

# What `fetch` writes: where each picture came from stands beside it.
FETCHED = pa.schema(
    [
        *SCHEMA,
        pa.field("url", pa.string(), nullable=False),
        pa.field("host", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("licence", pa.string(), nullable=False),
    ]
)

# What `pictures` writes: pictures that were there before.
IMPORTED = pa.schema(
    [
        *SCHEMA,
        pa.field("file", pa.string(), nullable=False, metadata={"is": "what its set calls it"}),
        pa.field("source", pa.string(), nullable=False),
        pa.field("licence", pa.string(), nullable=False),
    ]
)

# Every column that images have somewhere, in the order in which `join` writes them.
COLUMNS = {field.name: field for schema in (REVISED, FETCHED, IMPORTED) for field in schema}
COLUMNS |= {name: COLUMNS.pop(name) for name in ("file", "source", "licence")}
