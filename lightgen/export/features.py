"""What the types of columns are called by HF `datasets` and by Croissant."""

from typing import Any

import pyarrow as pa
import pyarrow.types as pt

from lightgen.export.rows import is_bytes

IMAGE = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])  # as `datasets.Image` stores it


def dtype(kind: pa.DataType) -> str:
    """The name of `datasets.Value`. Kinds of artifacts have flat columns only."""
    if is_bytes(kind):
        return "binary"
    names = {pa.float32(): "float32", pa.float64(): "float64"}
    assert kind in names or pt.is_integer(kind) or pt.is_boolean(kind) or pt.is_string(kind), f"{kind} is not flat"
    return names.get(kind, str(kind))


def features(schema: pa.Schema, pictures: list[str]) -> dict[str, Any]:
    """`datasets.Features` as Parquet's metadata holds them: pictures first."""
    plain = {field.name: {"dtype": dtype(field.type), "_type": "Value"} for field in schema}
    return {**{name: {"_type": "Image"} for name in pictures}, **plain}


def croissant_type(kind: pa.DataType) -> str:
    """The data type of a Croissant field; of bytes there is none, and readers give Text as bytes."""
    if pt.is_integer(kind):
        return "sc:Integer"
    if pt.is_floating(kind):
        return "sc:Float"
    return "sc:Boolean" if pt.is_boolean(kind) else "sc:Text"


def meaning(field: pa.Field) -> str:
    """What the schema says of a column, as text."""
    found = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
    first = found.pop("is", "")
    rest = "; ".join(f"{key}: {value}" for key, value in sorted(found.items()))
    return "; ".join(part for part in (first, rest) if part)
