"""Opens Parquet files, and refuses those that would unpack to far more than they are in the columns that are read."""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions when it is imported, where pyright does not see them.

import contextlib
import io
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lightgen.corpora.dictionary_page import LONG, all_short
from lightgen.corpora.raw import BATCH_ROWS
from lightgen.errors import InputCorrupt

MAX_ROW_GROUPS, MAX_COLUMNS = 10_000, 1_000
ENCRYPTED = b"PARE"  # begins and ends a file whose footer is encrypted
SIGNATURE = 28  # bytes after a footer that is not, where columns are
MAX_EXPANSION, MAX_UNCOMPRESSED = 64, 4 << 30
Columns = Callable[[pa.Schema], Sequence[str]]


def opened(file: BinaryIO, path: str, columns: Columns, rows: range | None = None) -> pq.ParquetFile:
    """A Parquet file, page checksums verified; `columns` names those that are read. Raises InputCorrupt.

    Row groups without any of `rows` are not looked at, so that reading a file range by range takes no longer than at
    once.
    """
    parquet = unchecked(file, path)
    names = columns(parquet.schema_arrow)
    if twice := [name for name in names if parquet.schema_arrow.names.count(name) > 1]:
        raise InputCorrupt(f"{path} has more than one column {twice[0]!a}. Write it again with a name for each")
    check(parquet, file, path, names, rows)
    return parquet


def unchecked(file: BinaryIO, path: str) -> pq.ParquetFile:
    """The same of a file whose columns are not looked at yet. Raises InputCorrupt."""
    size, magic = _tail(file)
    if magic == ENCRYPTED:
        raise _encrypted(path)
    parquet = pq.ParquetFile(file, page_checksum_verification=True)
    # A footer that can be read is signed where columns are encrypted. To look at such a column ends the process.
    if size == parquet.metadata.serialized_size + SIGNATURE:
        raise _encrypted(path)
    if any("dictionary<" in str(kind) for kind in parquet.schema_arrow.types):
        # pyarrow checks that a dictionary is UTF-8, so one odd value would cost the file: it is read as plain values.
        parquet = pq.ParquetFile(file, page_checksum_verification=True, binary_type=pa.large_binary())
    meta = parquet.metadata
    if meta.num_row_groups > MAX_ROW_GROUPS or meta.num_columns > MAX_COLUMNS:
        raise InputCorrupt(
            f"{path} has {meta.num_row_groups:,} row groups and {meta.num_columns:,} columns; at most "
            f"{MAX_ROW_GROUPS:,} and {MAX_COLUMNS:,} are read. Write it again with fewer, as with the columns you need"
        )
    return parquet


def _tail(file: BinaryIO) -> tuple[int, bytes]:
    """Bytes of the footer as the last bytes of the file say, and the magic after them."""
    size = file.seek(0, io.SEEK_END)
    file.seek(max(size - 8, 0))
    last = file.read(8)
    file.seek(0)
    return int.from_bytes(last[:4], "little"), last[4:]


def _encrypted(path: str) -> InputCorrupt:
    return InputCorrupt(f"{path} is encrypted, and no key can be given. Write it again without encryption")


def with_dictionaries(file: BinaryIO, meta: pq.FileMetaData, leaves: list[str]) -> pq.ParquetFile:
    """The same of a file that was checked, with these leaves as dictionaries and places in them."""
    return pq.ParquetFile(file, metadata=meta, read_dictionary=leaves, page_checksum_verification=True)


@contextlib.contextmanager
def sound(path: str) -> Iterator[None]:
    """Raises InputCorrupt with the path where what is read within is no Parquet or Arrow file.

    Names of columns are UTF-8 in both.
    """
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputCorrupt(f"{path} is not a sound Parquet file: {error}. Fetch or write it again") from error


def groups_of(meta: pq.FileMetaData, rows: range | None = None) -> list[int]:
    """The row groups that hold some of `rows`; None: all."""
    sizes = [meta.row_group(group).num_rows for group in range(meta.num_row_groups)]
    ends = list(itertools.accumulate(sizes))
    return [
        group
        for group, (size, end) in enumerate(zip(sizes, ends, strict=True))
        if rows is None or (rows.start < end and rows.stop > end - size)
    ]


def check(
    parquet: pq.ParquetFile, file: BinaryIO, path: str, columns: Sequence[str], rows: range | None = None
) -> None:
    """Raises InputCorrupt where the pages of these columns, or the values in their dictionaries, unpack to too much."""
    most = MAX_EXPANSION * max(file.seek(0, io.SEEK_END), 1 << 16)
    pages = decoded = 0
    leaves = _leaves(parquet, columns)
    for group in groups_of(parquet.metadata, rows):
        for index in leaves:
            chunk = parquet.metadata.row_group(group).column(index)
            pages += chunk.total_uncompressed_size
            # A value is no longer than the pages that hold it, and stands at most once a row.
            large = chunk.total_uncompressed_size > LONG and chunk.num_values * chunk.total_uncompressed_size > most
            if large and chunk.has_dictionary_page and not all_short(file, chunk):
                decoded += _dictionary_bytes(file, group, chunk.path_in_schema)
    if pages > MAX_UNCOMPRESSED or max(pages, decoded) > most:
        raise InputCorrupt(
            f"{path}: column {', '.join(columns)} of a file of {most // MAX_EXPANSION:,} bytes at most would unpack to "
            f"{max(pages, decoded):,}; more than {MAX_EXPANSION} times is refused"
        )


def _leaves(parquet: pq.ParquetFile, columns: Sequence[str]) -> list[int]:
    """Places of the columns and of what is nested in them."""
    paths = [parquet.schema.column(index).path for index in range(parquet.metadata.num_columns)]
    wanted = tuple(columns)
    return [
        at for at, path in enumerate(paths) if path in wanted or path.startswith(tuple(f"{one}." for one in wanted))
    ]


def _dictionary_bytes(file: BinaryIO, group: int, leaf: str) -> int:
    """Bytes that a text column with long values in its dictionary unpacks to; 0 where none is long.

    The column is read as dictionary and places in it, so nothing is unpacked.
    """
    total = 0
    parquet = pq.ParquetFile(file, read_dictionary=[leaf])
    for batch in parquet.iter_batches(batch_size=BATCH_ROWS, row_groups=[group], columns=[leaf]):
        values = _innermost(batch.column(0))
        if not isinstance(values, pa.DictionaryArray):
            return 0
        lengths = pc.binary_length(values.dictionary).to_numpy(zero_copy_only=False)
        if not len(lengths) or lengths.max() <= LONG:
            return 0
        total += int(lengths[values.indices.drop_null().to_numpy(zero_copy_only=False)].sum())
    return total


def _innermost(values: pa.Array) -> pa.Array:
    """The values of the one leaf of lists and structs."""
    while pa.types.is_nested(values.type) and values.type.num_fields == 1:
        values = values.flatten()[0] if pa.types.is_struct(values.type) else values.flatten()
    return values
