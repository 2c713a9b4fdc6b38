"""`lightgen rows REF --to FILE`: other programs read back what the version holds."""

import csv
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lightgen.storage.shards import ShardOutput
from lightgen.storage.store import open_or_create
from tests.lightgen.cli.terminal import lightgen
from tests.worked_version import build, plan_of

CAPTIONS = ['said "two, red"', "naïve café", "a\nb", "plain"]
SCHEMA = pa.schema([pa.field("id", pa.string(), nullable=False), ("caption", pa.string()), ("rank", pa.int32())])
LISTS = pa.schema([pa.field("id", pa.string(), nullable=False), ("x", pa.list_(pa.float32())), ("data", pa.binary())])


def captions(shard: int) -> ShardOutput:
    """Two captions a shard, the later ones of lower rank."""
    numbers = [2 * shard, 2 * shard + 1]
    columns = [[f"row-{n}" for n in numbers], [CAPTIONS[n] for n in numbers], [3 - n for n in numbers]]
    return ShardOutput(pa.table([pa.array(c) for c in columns], names=SCHEMA.names).cast(SCHEMA), 2, SCHEMA, [])


def lists(shard: int) -> ShardOutput:
    """One row with a list and bytes."""
    return ShardOutput(pa.Table.from_pylist([{"id": "a", "x": [0.5], "data": b"\x00"}], schema=LISTS), 1, LISTS, [])


@pytest.fixture
def rows(tmp_path, monkeypatch, capsys):
    store = open_or_create(str(tmp_path / "store"))
    build(store, plan_of(2), captions)
    build(store, plan_of(1, kind="features"), lists)
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> tuple[int, str]:
        code, out, err = lightgen("rows", *arguments, monkeypatch=monkeypatch, capsys=capsys)
        return code, out + err

    return call


@pytest.mark.parametrize(("name", "separator"), [("a.csv", ","), ("a.tsv", "\t")])
def test_a_spreadsheet_reads_every_row_with_its_quotes_and_lines(rows, tmp_path, name, separator) -> None:
    assert rows("captions", "--to", name)[0] == 0
    with (tmp_path / name).open(encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file, delimiter=separator))
    assert [row["caption"] for row in found] == CAPTIONS
    assert list(found[0]) == SCHEMA.names


def test_json_lines_and_parquet_hold_the_same(rows, tmp_path) -> None:
    assert rows("captions", "--to", "a.jsonl")[0] == rows("captions", "--to", "a.parquet")[0] == 0
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text(encoding="utf-8").split("\n")[:-1]]
    assert lines == pq.read_table(tmp_path / "a.parquet").to_pylist()
    assert [row["caption"] for row in lines] == CAPTIONS


def test_rows_are_sorted_before_they_are_cut_and_the_column_need_not_be_written(rows, tmp_path) -> None:
    code, out = rows("captions", "--column", "caption", "--order", "rank", "--limit", 2, "--to", "a.jsonl")
    assert (code, "2 rows of caption" in out) == (0, True)
    lines = (tmp_path / "a.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [{"caption": "plain"}, {"caption": "a\nb"}]


def test_without_a_name_the_file_is_called_as_the_version(rows, tmp_path) -> None:
    assert rows("captions")[0] == 0
    assert len(list(tmp_path.glob("captions-*.csv"))) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("captions", "--to", "a.xls"), "must end in one of .csv, .tsv, .jsonl, .parquet"),
        (("captions", "--column", "captoin"), "has no column 'captoin'; it has id, caption, rank"),
        (("captions", "--order", "rnk"), "has no column 'rnk'"),
        (("features", "--to", "a.csv"), "x, data cannot be written there"),
        (("features", "--to", "a.jsonl"), "data cannot be written there"),
    ],
)
def test_what_cannot_be_written_is_said_and_nothing_is_written(rows, tmp_path, arguments, said) -> None:
    code, out = rows(*arguments)
    assert (code, said in out.replace("\n", "")) == (2, True), out
    assert not [path for path in tmp_path.iterdir() if path.is_file()]


def test_lists_go_into_json_and_everything_into_parquet(rows, tmp_path) -> None:
    assert rows("features", "--column", "x", "--to", "a.jsonl")[0] == 0
    assert json.loads((tmp_path / "a.jsonl").read_text()) == {"x": [0.5]}
    assert rows("features", "--to", "a.parquet")[0] == 0
    assert pq.read_table(tmp_path / "a.parquet").to_pylist() == [{"id": "a", "x": [0.5], "data": b"\x00"}]
