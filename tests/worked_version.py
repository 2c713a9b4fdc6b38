"""A small version to build in tests of the store; imported by path, also by child processes."""

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from lightgen.storage.build import Reject, ShardOutput, make_plan

SCHEMA = pa.schema(
    [pa.field("id", pa.string(), nullable=False), pa.field("n", pa.int32(), nullable=False), ("x", pa.float32())]
)


class Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str = "a"


def plan_of(n_shards=3, seed=0, kind="captions", parents=(), **config):
    return make_plan(kind, "source", ["lightgen.seeds"], Config(**config), seed, parents, n_shards)


def rows(shard, count=4):
    ids = [f"row-{shard}-{i}" for i in range(count)]
    table = pa.table({"id": ids, "n": list(range(count)), "x": [None, *[0.5] * (count - 1)]}, schema=SCHEMA)
    return ShardOutput(table, rows_in=count)


def with_reject(shard):
    output = rows(shard)
    reject = Reject(f"bad-{shard}", "too_long", "x" * 900, {"caption": "lone surrogate \udc80"})
    return ShardOutput(output.table, rows_in=5, rejects=[reject])


def with_all(shard):
    """Rows, a reject, blobs and a file."""
    output = with_reject(shard)
    blobs = [{"png": f"png {shard} {i}".encode() * 50, "json": b'{"n":%d}' % i, "mask.png": b""} for i in range(4)]
    return ShardOutput(output.table, 5, output.rejects, blobs=blobs, files={"report.html": b"<p>hello</p>"})
