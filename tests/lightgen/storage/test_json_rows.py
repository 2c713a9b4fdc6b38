"""Rows written by the column against `json.dumps`, and rejects by the column against rejects one by one."""

import json

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from lightgen.storage.json_rows import json_rows
from lightgen.storage.shards import DETAIL_CHARACTERS, Reject, reject_rows, reject_table

TEXT = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.lists(st.sampled_from(['"', "\\", "\n", "\x7f", "a b", "\u00e9", "\U0001f468", "\x00", "/"])).map("".join),
)
ROWS = st.lists(st.tuples(TEXT, st.one_of(st.none(), TEXT), st.one_of(st.none(), st.integers(-(2**31), 2**31 - 1))))


def table(rows: list[tuple[str, str | None, int | None]]) -> pa.Table:
    b, a, number = (list(column) for column in zip(*rows, strict=True)) if rows else ([], [], [])
    columns = {"b": pa.array(b, pa.string()), "a": pa.array(a, pa.large_string()), "n": pa.array(number, pa.int32())}
    lists = pa.array([[1.5, None]] * len(rows), pa.list_(pa.float64()))
    return pa.table({**columns, "list": lists, "flag": pa.array([True] * len(rows), pa.bool_())})


@given(ROWS)
def test_rows_are_written_as_json_writes_them(rows: list[tuple[str, str | None, int | None]]) -> None:
    written = json_rows(table(rows)).to_pylist()
    assert written == [json.dumps(row, sort_keys=True) for row in table(rows).to_pylist()]
    assert json_rows(table(rows * 2)[len(rows) :]).to_pylist() == written


@given(ROWS)
def test_rejects_by_the_column_are_those_one_by_one(rows: list[tuple[str, str | None, int | None]]) -> None:
    given = table(rows)
    ids = [f"{place}" for place in range(len(rows))]
    details = [f"{'x' * DETAIL_CHARACTERS * (place % 2)}\ud800 {row[0]}" for place, row in enumerate(rows)]
    single = [Reject(id, id, detail, row) for id, detail, row in zip(ids, details, given.to_pylist(), strict=True)]
    assert reject_rows(pa.array(ids, pa.string()), ids, details, given).equals(reject_table(single))


def test_a_table_without_any_batch_has_no_rows() -> None:
    none = pa.Table.from_batches([], pa.schema([("text", pa.string()), ("count", pa.int64())]))
    assert json_rows(none).to_pylist() == []
