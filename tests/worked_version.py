"""A small version to build in tests of the store, from any function that makes shards; imported by path."""

from collections.abc import Sequence

import pyarrow as pa

from lightgen.config import Config
from lightgen.engines import build as engine
from lightgen.storage.plans import Stage
from lightgen.storage.shards import Reject, ShardOutput
from lightgen.storage.store import Store
from lightgen.work import Context, MakeShard, Needs, Work, Worker
from schemas.documents import Plan
from schemas.ref import ArtifactRef, Kind

SCHEMA = pa.schema(
    [pa.field("id", pa.string(), nullable=False), pa.field("n", pa.int32(), nullable=False), ("x", pa.float32())]
)
_MAKERS: dict[str, MakeShard] = {}


class Settings(Config):
    """Content settings of a worked version."""

    name: str = "a"


class _NoSettings(Config):
    max_reject_fraction: float = 0.0


def plan_of(
    n_shards: int = 3, seed: int = 0, kind: Kind = "captions", parents: Sequence[ArtifactRef] = (), **config: str
) -> Plan:
    """A plan of stage `source`, whatever its kind."""
    return Stage("source", kind, revision=1).plan(Settings(**config), seed, parents, n_shards)


def build(
    store: Store,
    plan: Plan,
    make_shard: MakeShard,
    max_reject_fraction: float = 0.0,
    parents: Sequence[ArtifactRef] = (),
    role: str = "",
) -> ArtifactRef:
    """The sealed version of `plan`, its shards made by a function of this process; `parents` are those of the plan."""
    _MAKERS[plan.version] = make_shard
    context = Context(store, plan.seed, role=role)
    settings = _NoSettings(max_reject_fraction=max_reject_fraction)
    return engine.build(Work.of(plan, settings, parents, context, f"{__name__}:open", Needs()), context)


def open(work: Work, worker: Worker) -> MakeShard:
    """See `lightgen.work`."""
    return _MAKERS[work.plan.version]


def rows(shard: int, count: int = 4) -> ShardOutput:
    """`count` rows with ids of their shard."""
    ids = [f"row-{shard}-{i}" for i in range(count)]
    table = pa.table({"id": ids, "n": list(range(count)), "x": [None, *[0.5] * (count - 1)]}, schema=SCHEMA)
    return ShardOutput(table, rows_in=count, schema=SCHEMA)


def with_reject(shard: int) -> ShardOutput:
    """Four rows, and one that was refused."""
    reject = Reject(f"bad-{shard}", "too_long", "x" * 900, {"caption": "lone surrogate \udc80"})
    return ShardOutput(rows(shard).table, rows_in=5, schema=SCHEMA, rejects=[reject])


def with_all(shard: int) -> ShardOutput:
    """Rows, a reject, blobs, a content file and an extra."""
    blobs = [{"png": f"png {shard} {i}".encode() * 50, "json": b'{"n":%d}' % i, "mask.png": b""} for i in range(4)]
    return ShardOutput(
        rows(shard).table, rows_in=5, schema=SCHEMA, rejects=with_reject(shard).rejects, blobs=blobs,
        files={"vae.json": b"{}"}, extras={"report.html": b"<p>hello</p>"},
    )  # fmt: skip
