"""Shards of features on disk, also for processes that pytest did not start."""

import numpy as np
import pyarrow as pa
import torch

from lightgen.seeds import content_id
from lightgen.storage.feature_codec import latent_array, latents_from_table, std_array, text_array, text_from_table
from lightgen.storage.parquet import conform, write_parquet
from lightgen.storage.quantised import std_bytes
from lightgen.training.data import FeaturesInMemory, number_ids
from lightgen.training.features_on_disk import open_feature_files
from lightgen.training.texts_on_disk import open_text_files
from schemas.features import schema
from schemas.texts import schema as text_schema

SHAPE, TEXT_DIM = (3, 4, 5), 6


def features_table(first, tokens, spread=0.5, dtype="bfloat16", short=False):
    """Rows `first`, `first + 1`, ... and their texts, of the given lengths: two tables; `short`: in 8 bits."""
    rows = len(tokens)
    generator = torch.Generator().manual_seed(first)
    ids = pa.array([content_id("row", first + row) for row in range(rows)], pa.string())
    mean = latent_array(torch.randn(rows, *SHAPE, generator=generator))
    std = (std_array if short else latent_array)(spread * torch.rand(rows, *SHAPE, generator=generator))
    codec = "int8" if short else "plain"
    text = text_array([torch.randn(count, TEXT_DIM, generator=generator) for count in tokens], dtype, codec)
    texts = [ids, ids, text, pa.array(tokens, pa.int32())]
    words = pa.table(texts, schema=text_schema(TEXT_DIM, dtype, codec))
    return pa.table(
        [ids, ids, ids, mean, std], schema=schema(SHAPE, std_bytes=std_bytes(SHAPE) if short else None)
    ), words


def write_shards(folder, lengths=(7, 4, 9), **options):
    """Shards of so many rows with texts of zero to four words; the features, and the tables of all rows and texts.

    The texts lie in one shard less, and in another order.
    """
    random = np.random.default_rng(0)
    made = []
    for rows in lengths:
        made.append(features_table(sum(len(t) for t, _ in made), random.integers(0, 5, rows).tolist(), **options))
    rows, texts = (pa.concat_tables(part) for part in zip(*made, strict=True))
    moved = texts.take(np.random.default_rng(1).permutation(len(texts)))
    halves = [moved.slice(0, len(moved) // 3), moved.slice(len(moved) // 3)]
    paths = written(folder, "rows", [table for table, _ in made])
    return open_feature_files(paths, open_text_files(written(folder, "texts", halves))), rows, texts


def written(folder, name, tables):
    """The tables as files."""
    paths = [folder / f"{name}-{number}.parquet" for number in range(len(tables))]
    for path, table in zip(paths, tables, strict=True):
        path.write_bytes(write_parquet(conform(table, table.schema, "test")))
    return paths


def read_features(table, texts):
    """The rows of a FEATURES table in memory, through Arrow: what reading them in place is compared with.

    Row i of `texts` is that of row i.
    """
    mean, std = latents_from_table(table)
    flat, count = text_from_table(texts)
    start = np.concatenate([[0], np.cumsum(count)[:-1]])
    ids = number_ids(table.column("id").to_pylist())
    return FeaturesInMemory(ids, mean, std if bool(std.any()) else None, flat, start, count)
