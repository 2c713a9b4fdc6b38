"""Rows read in place are those that pyarrow reads, whatever the pages; what cannot be read so is refused."""

import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lightgen.errors import SchemaMismatch, StoreCorrupt
from lightgen.storage.parquet import write_parquet
from lightgen.storage.parquet_rows import OpenFiles, UncompressedParquet

WIDTH = 14
SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("fixed", pa.binary(WIDTH), nullable=False),
        pa.field("text", pa.large_binary(), nullable=False),
    ]
)


def table(rows):
    """Texts of zero to ten bytes; every fourth is empty."""
    random = np.random.default_rng(rows)
    texts = [random.bytes((row % 4) * int(random.integers(1, 4))) for row in range(rows)]
    return pa.table([[f"{row}" for row in range(rows)], [random.bytes(WIDTH) for _ in range(rows)], texts], SCHEMA)


def sizes(of):
    return np.array([len(text) for text in of.column("text").to_pylist()], np.int64)


def all_rows(column):
    files, found = OpenFiles(), []
    for row, size in enumerate(column.sizes):
        into = np.zeros(size, np.uint8)
        column.prefetch(files, row)
        column.read(files, row, into)
        found.append(into.tobytes())
    return found


def write(path, of, **options):
    plain = {"compression": "none", "use_dictionary": False, "write_page_checksum": True, "write_batch_size": 3}
    pq.write_table(of, path, **(plain | options))
    return path


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize(
    ("rows", "group", "page"), [(1, 100, 1), (53, 100, 1 << 20), (53, 7, 30), (54, 20, 1), (0, 5, 9)]
)
def test_rows_are_those_of_pyarrow(tmp_path, rows, group, page, version):
    made = table(rows)
    path = write(tmp_path / "a.parquet", made, row_group_size=group, data_page_size=page, data_page_version=version)
    file = UncompressedParquet(path)
    if page == 1 and rows > 1:
        assert len(file.pages("text")) > rows / 4
    assert all_rows(file.fixed_size_column("fixed")) == made.column("fixed").to_pylist()
    assert all_rows(file.variable_size_column("text", sizes(made))) == made.column("text").to_pylist()
    for name in ("fixed", "text"):
        file.verify_pages(name)


def test_shards_of_our_writer(tmp_path):
    made = table(37)
    path = tmp_path / "a.parquet"
    path.write_bytes(write_parquet(made))
    assert all_rows(UncompressedParquet(path).fixed_size_column("fixed")) == made.column("fixed").to_pylist()
    assert (
        all_rows(UncompressedParquet(path).variable_size_column("text", sizes(made))) == made.column("text").to_pylist()
    )


@pytest.mark.parametrize("statistics", [True, False])
def test_headers_of_any_length(tmp_path, statistics):
    """Statistics lie in the header of a page: long values make it long."""
    texts = [bytes([row]) * (1000 + 300 * row) for row in range(9)]
    made = pa.table([["x"] * 9, [bytes(WIDTH)] * 9, texts], SCHEMA)
    path = write(tmp_path / "a.parquet", made, write_statistics=statistics, data_page_size=1)
    assert all_rows(UncompressedParquet(path).variable_size_column("text", sizes(made))) == texts


@pytest.mark.parametrize("options", [{"compression": "zstd"}, {"use_dictionary": True}, {"column_encoding": "other"}])
def test_what_is_not_plain_is_refused(tmp_path, options):
    if "column_encoding" in options:
        options = {"column_encoding": {"fixed": "BYTE_STREAM_SPLIT", "text": "DELTA_LENGTH_BYTE_ARRAY"}}
    made = table(11)
    file = UncompressedParquet(write(tmp_path / "a.parquet", made, **options))
    with pytest.raises(SchemaMismatch, match="expected plain"):
        file.fixed_size_column("fixed")
    with pytest.raises(SchemaMismatch, match="expected plain"):
        file.variable_size_column("text", sizes(made))


def test_other_columns_are_refused(tmp_path):
    nullable = pa.schema([*SCHEMA, pa.field("maybe", pa.large_binary())])
    made = pa.table([*table(3).columns, [b"a", None, b"b"]], nullable)
    file = UncompressedParquet(write(tmp_path / "a.parquet", made))
    with pytest.raises(SchemaMismatch, match="nullable"):
        file.variable_size_column("maybe", np.array([1, 0, 1]))
    with pytest.raises(SchemaMismatch, match="without nulls, got BYTE_ARRAY"):
        file.fixed_size_column("id")
    with pytest.raises(SchemaMismatch, match="no column 'gone'"):
        file.fixed_size_column("gone")


@pytest.mark.parametrize("page", [1, 1 << 20])
def test_texts_of_other_lengths_are_refused(tmp_path, page):
    made = table(23)
    file = UncompressedParquet(write(tmp_path / "a.parquet", made, data_page_size=page))
    with pytest.raises(StoreCorrupt, match="should take"):
        file.variable_size_column("text", sizes(made) + 1)
    with pytest.raises(StoreCorrupt, match="22 expected"):
        file.variable_size_column("text", sizes(made)[1:])
    swapped = file.variable_size_column("text", sizes(made)[[1, 0, *range(2, 23)]] if page > 1 else sizes(made))
    if page > 1:  # the sum is right, so it is the row itself that tells
        with pytest.raises(StoreCorrupt, match="row 0 does not hold"):
            all_rows(swapped)


def test_a_cut_file_is_refused(tmp_path):
    made = table(40)
    path = write(tmp_path / "a.parquet", made, row_group_size=15)
    whole = path.read_bytes()
    column = UncompressedParquet(path).fixed_size_column("fixed")
    for kept in (0, 3, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:kept])
        with pytest.raises(StoreCorrupt, match=str(path)):
            UncompressedParquet(path)
    path.write_bytes(whole[:60])
    with pytest.raises(StoreCorrupt, match="the file was changed"):
        column.read(OpenFiles(), 39, np.zeros(WIDTH, np.uint8))
    path.write_bytes(whole[:4] + whole[40:])  # the footer is whole, what it speaks of lies elsewhere
    with pytest.raises((StoreCorrupt, SchemaMismatch)):
        UncompressedParquet(path).fixed_size_column("fixed")


def test_damaged_headers_are_refused_with_our_errors_alone(tmp_path):
    """A header that makes sense by chance gives rows of the right size; what they hold only checksums can tell."""
    path, refused = write(tmp_path / "a.parquet", table(12)), 0
    whole = path.read_bytes()
    start = UncompressedParquet(path).pages("fixed")[0].offset
    random = np.random.default_rng(0)
    for _ in range(300):
        path.write_bytes(whole[: start - 20] + random.bytes(20) + whole[start:])
        try:
            assert {len(value) for value in all_rows(UncompressedParquet(path).fixed_size_column("fixed"))} == {WIDTH}
        except (StoreCorrupt, SchemaMismatch):
            refused += 1
    assert refused > 290


def test_damage_in_a_value_is_found_by_the_checksums_alone(tmp_path):
    path = write(tmp_path / "a.parquet", table(12), data_page_size=1)
    file = UncompressedParquet(path)
    column = file.fixed_size_column("fixed")
    damaged = bytearray(path.read_bytes())
    damaged[int(column.offsets[7]) + 5] ^= 1
    path.write_bytes(damaged)
    column.read(OpenFiles(), 7, np.zeros(WIDTH, np.uint8))
    file.verify_pages("text")
    with pytest.raises(StoreCorrupt, match="not what was written"):
        file.verify_pages("fixed")
    unchecked = UncompressedParquet(write(tmp_path / "b.parquet", table(5), write_page_checksum=False))
    with pytest.raises(SchemaMismatch, match="no checksums"):
        unchecked.verify_pages("fixed")


def test_more_files_than_may_be_open(tmp_path):
    files, columns = OpenFiles(max_open=2), []
    for number in range(5):
        made = table(number + 2)
        columns.append(
            (UncompressedParquet(write(tmp_path / f"{number}.parquet", made)).fixed_size_column("fixed"), made)
        )
    for _ in range(2):
        for column, made in columns:
            into = np.zeros(WIDTH, np.uint8)
            column.read(files, 1, into)
            assert into.tobytes() == made.column("fixed")[1].as_py()
    assert len(files._descriptors) == 2
    assert pickle.loads(pickle.dumps(files))._descriptors == {}
