"""Parquet shards: the declared schema enforced and stamped, page checksums written and verified."""

import hashlib

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pt

from lightgen.errors import SchemaMismatch, StoreCorrupt

MAGIC, MAX_FOOTER = b"PAR1", 16 << 20
STAMP = b"lightgen.schema_sha256"


def schema_digest(schema: pa.Schema) -> str:
    """Digest of the names, types, nullability and metadata of the columns."""
    lines = [f"{f.name}|{f.type}|{f.nullable}|{sorted((f.metadata or {}).items())}" for f in schema]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def conform(table: pa.Table, schema: pa.Schema, where: str) -> pa.Table:
    """`table` with exactly the columns of `schema`, in its order. Raises SchemaMismatch; never converts a value."""
    for field in schema:
        if field.name not in table.column_names:
            raise SchemaMismatch(f"{where}: column {field.name!r}: expected {field.type}, got no such column")
        got = table.schema.field(field.name).type
        if got != field.type:
            raise SchemaMismatch(f"{where}: column {field.name!r}: expected {field.type}, got {got}")
        nulls = table.column(field.name).null_count
        if nulls and not field.nullable:
            raise SchemaMismatch(f"{where}: column {field.name!r}: expected no null, got {nulls} of {table.num_rows}")
    extra = [name for name in table.column_names if name not in schema.names]
    if extra:
        raise SchemaMismatch(f"{where}: column {extra[0]!r}: expected no such column, got one")
    stamped = schema.with_metadata({**(schema.metadata or {}), STAMP: schema_digest(schema).encode()})
    return pa.Table.from_arrays([table.column(name) for name in schema.names], schema=stamped)


def write_parquet(table: pa.Table) -> memoryview:
    """The bytes of a Parquet file: zstd for text and numbers, nothing for binary columns, which do not shrink."""
    binary = {f.name for f in table.schema if pt.is_fixed_size_binary(f.type) or pt.is_large_binary(f.type)}
    plain = [name for name in table.column_names if name not in binary]
    compression = {name: "none" if name in binary else "zstd" for name in table.column_names}
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        compression=compression,  # pyright: ignore[reportArgumentType]
        use_dictionary=plain,  # pyright: ignore[reportArgumentType]
        write_page_checksum=True,
    )
    return memoryview(sink.getvalue())


def schema_of_tail(tail: bytes, where: str) -> tuple[pa.Schema | None, int]:
    """The schema in the last bytes of a Parquet file, or None and how many bytes of its end are needed.

    Raises StoreCorrupt for bytes that are not the end of a Parquet file.
    """
    needed = int.from_bytes(tail[-8:-4], "little") + 8
    if tail[-4:] != MAGIC or needed > MAX_FOOTER:
        raise StoreCorrupt(f"{where}: does not end as Parquet does")
    if needed > len(tail):
        return None, needed
    try:
        return pq.read_schema(pa.BufferReader(MAGIC + tail[-needed:])), needed
    except (pa.ArrowInvalid, OSError) as error:
        raise StoreCorrupt(f"{where}: not readable as Parquet: {str(error)[:200]}") from error


def read_parquet(data: pa.Buffer, columns: list[str] | None, where: str) -> pa.Table:
    """The table in `data`. Raises StoreCorrupt for bytes that are no Parquet, KeyError for an unknown column."""
    try:
        file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
        unknown = [name for name in columns or [] if name not in file.schema_arrow.names]
        if unknown:
            raise KeyError(f"{where} has no column {unknown[0]!r}; it has {', '.join(file.schema_arrow.names)}")
        return file.read(columns=columns)
    except (pa.ArrowInvalid, OSError) as error:
        raise StoreCorrupt(f"{where}: not readable as Parquet: {str(error)[:200]}") from error
