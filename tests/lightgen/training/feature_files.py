"""Shards of features on disk, also for processes that pytest did not start."""

import numpy as np
import pyarrow as pa
import torch

from lightgen.seeds import content_id
from lightgen.storage.feature_codec import latent_array, latents_from_table, text_array, text_from_table
from lightgen.storage.parquet import conform, write_parquet
from lightgen.training.data import FeaturesInMemory, number_ids
from schemas.features import schema

SHAPE, TEXT_DIM = (3, 4, 5), 6


def features_table(first, tokens, spread=0.5, dtype="bfloat16"):
    """Rows `first`, `first + 1`, ... with texts of the given lengths."""
    rows = len(tokens)
    generator = torch.Generator().manual_seed(first)
    ids = pa.array([content_id("row", first + row) for row in range(rows)], pa.string())
    mean = latent_array(torch.randn(rows, *SHAPE, generator=generator))
    std = latent_array(spread * torch.rand(rows, *SHAPE, generator=generator))
    text = text_array([torch.randn(count, TEXT_DIM, generator=generator) for count in tokens], dtype)
    columns = [ids, ids, ids, mean, std, text, pa.array(tokens, pa.int32())]
    return pa.table(columns, schema=schema(SHAPE, TEXT_DIM, dtype))


def write_shards(folder, lengths=(7, 4, 9), **options):
    """Shards of so many rows with texts of zero to four words; their paths and the table of all rows."""
    random = np.random.default_rng(0)
    paths, tables = [], []
    for rows in lengths:
        made = features_table(sum(len(t) for t in tables), random.integers(0, 5, rows).tolist(), **options)
        tables.append(conform(made, made.schema, "test"))
        paths.append(folder / f"{len(paths)}.parquet")
        paths[-1].write_bytes(write_parquet(tables[-1]))
    return paths, pa.concat_tables(tables)


def read_features(table):
    """The rows of a FEATURES table in memory, through Arrow: what reading them in place is compared with."""
    mean, std = latents_from_table(table)
    flat, count = text_from_table(table)
    start = np.concatenate([[0], np.cumsum(count)[:-1]])
    ids = number_ids(table.column("id").to_pylist())
    return FeaturesInMemory(ids, mean, std if bool(std.any()) else None, flat, start, count)
