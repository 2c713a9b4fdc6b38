"""ls, show, diff, trace."""

import pyarrow as pa
import pytest

from lightgen.errors import RefNotFound, StoreCorrupt
from lightgen.storage import inspect
from lightgen.storage.inspect import diff, list_versions, show
from lightgen.storage.parquet import write_parquet
from lightgen.storage.shards import ShardOutput
from lightgen.storage.store import open_or_create
from tests.worked_version import SCHEMA, build, plan_of, rows, with_all

CHILD = pa.schema([pa.field("id", pa.string(), nullable=False), ("prompt_id", pa.string()), ("latent", pa.binary(4))])


def test_list_and_show(tmp_path):
    store = open_or_create(str(tmp_path))
    first = build(store, plan_of(), rows)
    second = build(store, plan_of(kind="images"), with_all, max_reject_fraction=1)
    store.tag(first, "good")
    lines = list_versions(store)
    assert [(line.kind, line.n, line.version, line.rows, line.tags) for line in lines] == [
        ("captions", 1, first.version, 12, ("good",)),
        ("images", 1, second.version, 12, ()),
    ]
    assert lines[0].bytes > 0
    assert lines[0].age.total_seconds() < 100
    shown = show(store, "images")
    assert (shown.rows_in, shown.rows_out, shown.reject_reasons) == (15, 12, {"too_long": 3})
    assert shown.columns[0] == ("id", "string", {})
    assert all((tmp_path / file).exists() for file in shown.files)
    with pytest.raises(RefNotFound, match="there are captions"):
        list_versions(store, "nonsense")


def test_diff(tmp_path):
    store = open_or_create(str(tmp_path))
    table = pa.concat_tables([rows(0).table, rows(1).table])
    moved = table.slice(1).set_column(1, SCHEMA.field("n"), pa.array([7, *table["n"].to_pylist()[2:]], pa.int32()))
    extra = pa.concat_tables([moved, rows(2, 1).table])
    old = build(store, plan_of(1), lambda s: ShardOutput(table, 8, SCHEMA))
    new = build(store, plan_of(1, seed=1), lambda s: ShardOutput(extra, 8, SCHEMA))
    found = diff(store, old, new)
    assert (found.added, found.removed, found.changed, found.same) == (["row-2-0"], ["row-0-0"], ["row-0-1"], 6)


@pytest.mark.parametrize("tail", [8, 100, 64 << 10])
def test_the_schema_is_read_from_the_end_of_a_file_and_checked(tmp_path, monkeypatch, tail):
    monkeypatch.setattr(inspect, "TAIL_BYTES", tail)
    store = open_or_create(str(tmp_path))
    version = store.open(build(store, plan_of(), rows))
    assert inspect.declared_schema(version).equals(SCHEMA)
    (path,) = [tmp_path / path for path in version.paths()[:1]]
    data = path.read_bytes()
    other = write_parquet(pa.table({"id": ["x"]}))
    for damaged in (
        data[:-1],
        data[:-100] + bytes(100),
        bytes(len(data)),
        bytes(len(data) - len(other)) + bytes(other),
    ):
        path.write_bytes(damaged)
        with pytest.raises(StoreCorrupt):
            inspect.declared_schema(version)
