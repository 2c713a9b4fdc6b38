"""What a worker has finished of a shard that is still in work: batches that were paid for, or took long.

Entries are Parquet under `partial/<shard>/`, created once and read back when the shard is begun again, by whomever. So
a kill costs the batch in work, and a batch of which half failed keeps the other half. Sealing removes them.
"""

import uuid

import pyarrow as pa

from lightgen.storage.files import Files
from lightgen.storage.parquet import read_parquet, write_parquet
from schemas.documents import Plan


class Journal:
    """The finished batches of one shard."""

    def __init__(self, files: Files, plan: Plan, shard: int) -> None:
        self.files, self.folder = files, f"{plan.folder}/partial/{shard:05d}"

    def read(self) -> list[pa.Table]:
        """Every batch, in no order. Raises StoreCorrupt."""
        keys = [f"{self.folder}/{name}" for name in self.files.names(self.folder)]
        tables = zip(keys, self.files.read_many(keys), strict=True)
        return [read_parquet(pa.py_buffer(data), None, key) for key, data in tables]

    def add(self, batch: pa.Table) -> None:
        """Keep a finished batch."""
        if batch.num_rows:
            self.files.create(f"{self.folder}/{uuid.uuid4().hex}.parquet", [write_parquet(batch)])


def forget(files: Files, plan: Plan) -> None:
    """Remove the journals of a version that is sealed."""
    base = f"{plan.folder}/partial"
    for shard in files.names(base):
        for name in files.names(f"{base}/{shard}"):
            files.delete(f"{base}/{shard}/{name}")
