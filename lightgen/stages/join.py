"""Several IMAGES -> one IMAGES: what several generators drew, and pictures that were there before.

A map: its shards are those of the first version, then those of the next, rejects with them. A shard that has all
columns already is linked and takes no room; else its rows get the columns that others have, empty, and are written
once more. Memory: the files of one shard.
"""

import json
from collections.abc import Sequence

import pyarrow as pa

from lightgen.config import Config
from lightgen.engines.build import build
from lightgen.storage.parquet import schema_digest
from lightgen.storage.plans import Stage
from lightgen.storage.reuse import LentShard
from lightgen.storage.shards import Reject, ShardOutput
from lightgen.storage.version import Version
from lightgen.work import Context, MakeShard, Needs, Work, Worker
from schemas.images import COLUMNS
from schemas.ref import ArtifactRef

STAGE = Stage("join", "images", revision=1)


class JoinConfig(Config):
    """No settings: what is joined decides."""


def join(images: Sequence[ArtifactRef], config: JoinConfig, context: Context) -> ArtifactRef:
    """The images of all versions, in their order. Ids must differ: raises DuplicateKey where an image is in two."""
    n_shards = sum(context.store.open(ref).n_shards for ref in images)
    plan = STAGE.plan(config, context.seed, images, n_shards)
    needs = Needs(unit="images", total=sum(ref.rows for ref in images))
    return build(Work.of(plan, config, images, context, f"{__name__}:open", needs), context)


def open(work: Work, worker: Worker) -> MakeShard:
    """See `lightgen.work`."""
    versions = [worker.store.open(ref) for ref in work.parents]
    places = [(version, shard) for version in versions for shard in range(version.n_shards)]
    whole = joined_schema(versions)

    def make_shard(shard: int) -> ShardOutput | LentShard:
        version, place = places[shard]
        receipt = version.manifest.shards[place]
        worker.progress.advance(receipt.rows_out)
        has_all = receipt.schema_sha256 == schema_digest(whole)
        return LentShard(version, place) if has_all else _with(whole, version, place)

    return make_shard


def joined_schema(versions: Sequence[Version]) -> pa.Schema:
    """All columns that one of the versions has."""
    there = {name for version in versions for name in version.table(0).column_names}
    return pa.schema([field for name, field in COLUMNS.items() if name in there])


def _with(whole: pa.Schema, version: Version, shard: int) -> ShardOutput:
    """A shard once more, with the columns that it has not: texts, which are empty."""
    table = version.table(shard)
    for name in (name for name in whole.names if name not in table.column_names):
        table = table.append_column(name, pa.array([""] * table.num_rows, pa.string()))
    rejects = [
        Reject(row["id"], row["reason"], row["detail"], json.loads(row["row"]))
        for row in version.rejects(shard).to_pylist()
    ]
    blobs = [files for _, files in version.samples(shard)]
    rows_in = table.num_rows + len(rejects)
    return ShardOutput(table=table.select(whole.names), rows_in=rows_in, schema=whole, rejects=rejects, blobs=blobs)
