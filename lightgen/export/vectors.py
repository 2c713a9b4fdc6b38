"""Vectors that the store keeps in 8 bits, as the 16-bit numbers that training reads: nobody else knows our codecs."""

import numpy as np
import pyarrow as pa

CODEC = b"codec"


def plain(schema: pa.Schema) -> pa.Schema:
    """The columns of `restored`."""
    return pa.schema([_plain(field) if _coded(field) else field for field in schema])


def restored(table: pa.Table) -> pa.Table:
    """`table` with every column of codes as bytes of its `dtype`, which memory holds. Raises SchemaMismatch."""
    for place, field in enumerate(table.schema):
        if _coded(field):
            values = _texts(table) if field.name == "text" else _deviations(table, field.name)
            table = table.set_column(place, _plain(field), pa.array(values, pa.large_binary()))
    return table


def _coded(field: pa.Field) -> bool:
    return CODEC in (field.metadata or {})


def _plain(field: pa.Field) -> pa.Field:
    kept = {key: value for key, value in field.metadata.items() if key != CODEC}
    return pa.field(field.name, pa.large_binary(), field.nullable, kept)


def _texts(table: pa.Table) -> list[bytes]:
    import torch

    from lightgen.storage.feature_codec import text_from_table

    words, tokens = text_from_table(table)
    raw = words.contiguous().view(torch.int16).numpy()
    ends = np.cumsum(tokens)
    return [raw[end - count : end].tobytes() for end, count in zip(ends, tokens, strict=True)]


def _deviations(table: pa.Table, name: str) -> list[bytes]:
    from lightgen.storage.feature_codec import stds_from_table

    return [row.numpy().tobytes() for row in stds_from_table(table, name)]
