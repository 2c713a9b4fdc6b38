"""SCORES: one row an image, with the raw answers of one scorer; written by stage `score`, joins IMAGES by id.

An image that could not be scored keeps its row: the columns of the scorer are null then, and `unscored` says why.
"""

from dataclasses import dataclass

import pyarrow as pa

ROW = [
    pa.field("id", pa.string(), nullable=False, metadata={"is": "id of the image"}),
    pa.field("prompt_id", pa.string(), nullable=False),
    pa.field("caption", pa.string(), nullable=False),
    pa.field("index", pa.int32(), nullable=False, metadata={"is": "number among the images of one prompt"}),
    pa.field("image_sha256", pa.string(), nullable=False),
]
UNSCORED = [
    pa.field("unscored", pa.string(), nullable=False, metadata={"is": "why there is no score, snake_case, or empty"}),
    pa.field("unscored_detail", pa.string(), nullable=False, metadata={"is": "the same for people"}),
]
# The column of a feature network.
VECTOR = pa.field("vector", pa.binary(), metadata={"dtype": "float32, little-endian", "shape": "features"})


@dataclass(frozen=True)
class Unscored:
    """Why there is no answer: a short slug, and a detail for people."""

    reason: str
    detail: str = ""


def schema(answers: pa.Schema) -> pa.Schema:
    """The Arrow schema of scores whose scorer gives the nullable columns `answers`."""
    return pa.schema([*ROW, *answers, *UNSCORED])
