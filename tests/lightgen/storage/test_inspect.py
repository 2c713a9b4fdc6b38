"""ls, show, diff, trace."""

import pyarrow as pa
import pytest

from lightgen.errors import RefNotFound
from lightgen.storage.inspect import diff, list_versions, show, trace
from lightgen.storage.shards import Reject, ShardOutput
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


def test_trace_follows_a_row_up_and_down(tmp_path):
    store = open_or_create(str(tmp_path))
    captions = build(store, plan_of(), rows)
    prompts = build(store, plan_of(kind="prompts", parents=[captions]), rows, parents=[captions])

    def images(shard):
        made = [{"id": f"image-{shard}-{i}", "prompt_id": f"row-{shard}-{i}", "latent": b"1234"} for i in range(3)]
        reject = Reject("image-x", "blank", "", {"prompt_id": f"row-{shard}-3"})
        return ShardOutput(pa.Table.from_pylist(made, CHILD), 4, CHILD, [reject] if shard == 0 else [reject][:0])

    def exact(shard):
        output = images(shard)
        return ShardOutput(output.table, output.table.num_rows + len(output.rejects), CHILD, output.rejects)

    features = build(
        store, plan_of(kind="features", parents=[prompts]), exact, max_reject_fraction=1, parents=[prompts]
    )
    checkpoint = build(store, plan_of(1, kind="checkpoint", parents=[features]), rows, parents=[features])
    other = build(store, plan_of(1, kind="checkpoint", seed=5), lambda s: rows(9))
    steps = trace(store, "image-1-2")
    assert [(step.kind, step.row.get("id")) for step in steps if step.outcome == "kept"][:3] == [
        ("captions", "row-1-2"),
        ("prompts", "row-1-2"),
        ("features", "image-1-2"),
    ]
    assert "latent" not in steps[2].row
    assert checkpoint in [step.ref for step in steps]
    assert other not in [step.ref for step in steps]
    assert [step.outcome for step in trace(store, "image-x")] == ["rejected"]
    with pytest.raises(RefNotFound, match="'nobody'"):
        trace(store, "nobody")
