"""Rows read in place are those that pyarrow reads, whatever the pages; what cannot be read so is refused."""

import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lightgen.errors import SchemaMismatch, StoreCorrupt
from lightgen.storage.mapped import OpenFiles, PlainFile
from lightgen.storage.parquet import write_parquet

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
    for row, size in enumerate(column.size):
        into = np.zeros(size, np.uint8)
        column.expect(files, row)
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
    file = PlainFile(path)
    if page == 1 and rows > 1:
        assert len(file.pages("text")) > rows / 4
    assert all_rows(file.fixed("fixed")) == made.column("fixed").to_pylist()
    assert all_rows(file.variable("text", sizes(made))) == made.column("text").to_pylist()
    for name in ("fixed", "text"):
        file.verify_pages(name)


def test_shards_of_our_writer(tmp_path):
    made = table(37)
    path = tmp_path / "a.parquet"
    path.write_bytes(write_parquet(made))
    assert all_rows(PlainFile(path).fixed("fixed")) == made.column("fixed").to_pylist()
    assert all_rows(PlainFile(path).variable("text", sizes(made))) == made.column("text").to_pylist()


@pytest.mark.parametrize("statistics", [True, False])
def test_headers_of_any_length(tmp_path, statistics):
    """Statistics lie in the header of a page: long values make it long."""
    texts = [bytes([row]) * (1000 + 300 * row) for row in range(9)]
    made = pa.table([["x"] * 9, [bytes(WIDTH)] * 9, texts], SCHEMA)
    path = write(tmp_path / "a.parquet", made, write_statistics=statistics, data_page_size=1)
    assert all_rows(PlainFile(path).variable("text", sizes(made))) == texts


@pytest.mark.parametrize("options", [{"compression": "zstd"}, {"use_dictionary": True}, {"column_encoding": "other"}])
def test_what_is_not_plain_is_refused(tmp_path, options):
    if "column_encoding" in options:
        options = {"column_encoding": {"fixed": "BYTE_STREAM_SPLIT", "text": "DELTA_LENGTH_BYTE_ARRAY"}}
    made = table(11)
    file = PlainFile(write(tmp_path / "a.parquet", made, **options))
    with pytest.raises(SchemaMismatch, match="expected plain"):
        file.fixed("fixed")
    with pytest.raises(SchemaMismatch, match="expected plain"):
        file.variable("text", sizes(made))


def test_other_columns_are_refused(tmp_path):
    nullable = pa.schema([*SCHEMA, pa.field("maybe", pa.large_binary())])
    made = pa.table([*table(3).columns, [b"a", None, b"b"]], nullable)
    file = PlainFile(write(tmp_path / "a.parquet", made))
    with pytest.raises(SchemaMismatch, match="nullable"):
        file.variable("maybe", np.array([1, 0, 1]))
    with pytest.raises(SchemaMismatch, match="without nulls, got BYTE_ARRAY"):
        file.fixed("id")
    with pytest.raises(SchemaMismatch, match="no column 'gone'"):
        file.fixed("gone")


@pytest.mark.parametrize("page", [1, 1 << 20])
def test_texts_of_other_lengths_are_refused(tmp_path, page):
    made = table(23)
    file = PlainFile(write(tmp_path / "a.parquet", made, data_page_size=page))
    with pytest.raises(StoreCorrupt, match="should take"):
        file.variable("text", sizes(made) + 1)
    with pytest.raises(StoreCorrupt, match="22 expected"):
        file.variable("text", sizes(made)[1:])
    swapped = file.variable("text", sizes(made)[[1, 0, *range(2, 23)]] if page > 1 else sizes(made))
    if page > 1:  # the sum is right, so it is the row itself that tells
        with pytest.raises(StoreCorrupt, match="row 0 does not hold"):
            all_rows(swapped)


def test_a_cut_file_is_refused(tmp_path):
    made = table(40)
    path = write(tmp_path / "a.parquet", made, row_group_size=15)
    whole = path.read_bytes()
    column = PlainFile(path).fixed("fixed")
    for kept in (0, 3, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:kept])
        with pytest.raises(StoreCorrupt, match=str(path)):
            PlainFile(path)
    path.write_bytes(whole[:60])
    with pytest.raises(StoreCorrupt, match="the file was changed"):
        column.read(OpenFiles(), 39, np.zeros(WIDTH, np.uint8))
    path.write_bytes(whole[:4] + whole[40:])  # the footer is whole, what it speaks of lies elsewhere
    with pytest.raises((StoreCorrupt, SchemaMismatch)):
        PlainFile(path).fixed("fixed")


def test_damaged_headers_never_end_in_anything_but_our_errors(tmp_path):
    path = write(tmp_path / "a.parquet", table(12))
    whole = bytearray(path.read_bytes())
    start = PlainFile(path).pages("fixed")[0].start
    random = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[start - 20 : start] = random.bytes(20)
        path.write_bytes(damaged)
        try:
            all_rows(PlainFile(path).fixed("fixed"))
        except (StoreCorrupt, SchemaMismatch):
            continue


def test_damage_in_a_value_is_found_by_the_checksums_alone(tmp_path):
    path = write(tmp_path / "a.parquet", table(12), data_page_size=1)
    file = PlainFile(path)
    column = file.fixed("fixed")
    damaged = bytearray(path.read_bytes())
    damaged[int(column.start[7]) + 5] ^= 1
    path.write_bytes(damaged)
    column.read(OpenFiles(), 7, np.zeros(WIDTH, np.uint8))
    file.verify_pages("text")
    with pytest.raises(StoreCorrupt, match="not what was written"):
        file.verify_pages("fixed")
    unchecked = PlainFile(write(tmp_path / "b.parquet", table(5), write_page_checksum=False))
    with pytest.raises(SchemaMismatch, match="no checksums"):
        unchecked.verify_pages("fixed")


def test_more_files_than_may_be_open(tmp_path):
    files, columns = OpenFiles(most=2), []
    for number in range(5):
        made = table(number + 2)
        columns.append((PlainFile(write(tmp_path / f"{number}.parquet", made)).fixed("fixed"), made))
    for _ in range(2):
        for column, made in columns:
            into = np.zeros(WIDTH, np.uint8)
            column.read(files, 1, into)
            assert into.tobytes() == made.column("fixed")[1].as_py()
    assert len(files._numbers) == 2
    assert pickle.loads(pickle.dumps(files))._numbers == {}
