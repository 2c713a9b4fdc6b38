"""Speed of reading features in random order, compared with other ways to store and read the same rows.

Rows are as large as those of the full recipe: latent moments of 16 x 32 x 32 in float16, and a T5-XXL text of 39 tokens
on average (a guess at real captions). All values are random. Every way gives the same padded batches of the same
shuffled rows. The page cache is warm. Rounds are interleaved and the median counts, because other work on the machine
slows all ways down.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lightgen.seeds import content_id
from lightgen.storage.feature_codec import latent_array, std_array, text_array
from lightgen.storage.parquet import conform, write_parquet
from lightgen.storage.quantised import std_bytes
from lightgen.training.data import rows_of_step
from lightgen.training.features_on_disk import FeaturesOnDisk, open_feature_files
from lightgen.training.loader import Loader
from lightgen.training.texts_on_disk import open_text_files
from lightgen.training.workers import slots
from schemas import features as features_schema
from schemas import texts as texts_schema

LATENT, TEXT_DIM, TOKENS, MAX_TOKENS = (16, 32, 32), 4096, 39, 128
SHARD_ROWS = 512
GROUP_ROWS = (1, 16)  # the best case for pyarrow, and a usual one
SLOW_ROWS = 512  # baselines read no more than this, for they take up to twice the space and far longer
ROUNDS = 3
PASSES = 4  # of ours in a round: one is over in a tenth of a second
Rows = list[int]
Steps = Generator[object, None, None]


@dataclass(frozen=True)
class LoaderRate:
    """Speed of one way to read; GB are those of the rows as we store them, without padding."""

    name: str
    rows_per_s: float
    gb_per_s: float
    row_bytes: float


def bench_loader(rows: int, workers: int, batch: int) -> list[LoaderRate]:
    """Ours with 0 to `workers` worker processes, then the baselines."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        features = write_features(folder, rows)
        (folder / "short").mkdir()
        short = write_features(folder / "short", rows, short=True)
        few = min(rows, SLOW_ROWS)
        ways: dict[str, tuple[int, Callable[[int], Steps]]] = {}
        for number in range(workers + 1):
            name = "lightgen, 1 worker" if number == 1 else f"lightgen, {number} workers"
            ways[name] = (PASSES * rows, partial(_ours, features, batch, number))
            ways[f"{name}, 8 bits"] = (PASSES * rows, partial(_ours, short, batch, number))
        for group in GROUP_ROWS:
            file = _write_groups(folder, few, group)
            ways[f"pyarrow, groups of {group}"] = (few, partial(_row_groups, file, group, batch, few))
        _write_npz(folder, features, few)
        for number in (0, workers):
            read = partial(_npz, _Npz(folder, features.longest_text), batch, few, number)
            ways[f"npz per sample, {number} workers"] = (few, read)
        sizes = {name: _row_bytes(short if name.endswith("8 bits") else features) for name in ways}
        return _measure(ways, batch, sizes, slots(workers, Loader.prefetch))


def _measure(
    ways: dict[str, tuple[int, Callable[[int], Steps]]], batch: int, sizes: dict[str, float], warm_up: int
) -> list[LoaderRate]:
    """Rows a second of whole passes, once every slot of the workers' memory was written; they end off the clock."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, (rows, read) in ways.items():
            steps = read(warm_up + rows // batch)
            for _ in range(warm_up):
                next(steps)
            began = time.perf_counter()
            for _ in range(rows // batch):
                next(steps)
            seconds[name].append(time.perf_counter() - began)
            steps.close()
    rates = {name: ways[name][0] // batch * batch / statistics.median(taken) for name, taken in seconds.items()}
    return [LoaderRate(name, rate, rate * sizes[name] / 1e9, sizes[name]) for name, rate in rates.items()]


def _ours(features: FeaturesOnDisk, batch: int, workers: int, steps: int) -> Steps:
    with Loader(features, partial(rows_of_step, 0, rows=len(features), batch_size=batch), workers=workers) as loader:
        for step in range(steps):
            yield loader.at(step)


def _row_groups(file: Path, group_rows: int, batch: int, rows: int, steps: int) -> Steps:
    """pyarrow decodes the row groups in which the rows of a batch lie."""
    opened = pq.ParquetFile(file, memory_map=True)
    longest = int(opened.read(["text_tokens"]).column(0).to_numpy().max())
    columns = ["latent_mean", "latent_std", "text"]
    for chosen in _shuffled(rows, batch, steps):
        groups = {group: opened.read_row_group(group, columns) for group in {row // group_rows for row in chosen}}
        parts = [groups[row // group_rows].slice(row % group_rows, 1) for row in chosen]
        values = [[part.column(name)[0].as_buffer() for name in columns] for part in parts]
        yield _padded([value[:2] for value in values], [np.frombuffer(value[2], np.uint8) for value in values], longest)


def _padded(latents: list[list[pa.Buffer]], texts: list[np.ndarray], longest: int) -> tuple[Tensor, Tensor, Tensor]:
    mean, std = (
        torch.from_numpy(np.stack([np.frombuffer(row[place], np.uint8) for row in latents])) for place in (0, 1)
    )
    text = np.zeros((len(texts), longest * TEXT_DIM * 2), np.uint8)
    for number, value in enumerate(texts):
        text[number, : len(value)] = value
    return mean, std, torch.from_numpy(text)


def _npz(dataset: "_Npz", batch: int, rows: int, workers: int, steps: int) -> Steps:
    """The published code's way: two npz files of an image, torch's own collation."""
    yield from DataLoader(dataset, batch_sampler=_shuffled(rows, batch, steps), num_workers=workers)


class _Npz(Dataset[tuple[Tensor, Tensor]]):
    """Moments and text of an image, in float32, each in a file of its own."""

    def __init__(self, folder: Path, longest: int) -> None:
        self.folder, self.longest = folder, longest

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        moments = np.load(self.folder / f"{row}.moments.npz")["moments"]
        words = np.load(self.folder / f"{row}.text.npz")["text"]
        text = np.zeros((self.longest, TEXT_DIM), np.float32)
        text[: len(words)] = words
        return torch.from_numpy(moments), torch.from_numpy(text)


def _shuffled(rows: int, batch: int, steps: int) -> list[Rows]:
    return [rows_of_step(0, step, rows, batch)[0].tolist() for step in range(steps)]


def write_features(
    folder: Path, rows: int, latent: tuple[int, int, int] = LATENT, short: bool = False
) -> FeaturesOnDisk:
    """Random rows of features in `folder`, with moments of shape `latent`, and a text for each; `short`: in 8 bits."""
    paths: list[tuple[Path, Path]] = []
    for first in range(0, rows, SHARD_ROWS):
        tables = _tables(first, min(SHARD_ROWS, rows - first), latent, short)
        paths.append((folder / f"rows-{first}", folder / f"texts-{first}"))
        for path, table in zip(paths[-1], tables, strict=True):
            path.write_bytes(write_parquet(conform(table, table.schema, "bench")))
    return open_feature_files([rows for rows, _ in paths], open_text_files([texts for _, texts in paths]))


def _tables(first: int, rows: int, latent: tuple[int, int, int], short: bool = False) -> tuple[pa.Table, pa.Table]:
    generator = torch.Generator().manual_seed(first)
    # Few captions are long, none is empty: the end mark counts.
    tokens = np.random.default_rng(first).gamma(4, TOKENS / 4, rows).round().clip(1, MAX_TOKENS).astype(int)
    ids = pa.array([content_id("bench", first + row) for row in range(rows)])
    values = [torch.randn(rows, *latent, generator=generator) for _ in range(2)]
    # Deviations of half the channels are near 0.01 and of the others near 0.1, as of no VAE in particular.
    std = 0.1 ** (1 + torch.arange(latent[0]) % 2)[:, None, None] * torch.exp(values[1] / 2)
    columns = [latent_array(values[0]), std_array(std) if short else latent_array(std)]
    words = torch.randn(MAX_TOKENS, TEXT_DIM, generator=generator)
    codec = "int8" if short else "plain"
    text = text_array([words[: int(count)].roll(row, 1) for row, count in enumerate(tokens)], "bfloat16", codec)
    of_texts = texts_schema.schema(TEXT_DIM, "bfloat16", codec)
    of_rows = features_schema.schema(latent, std_bytes=std_bytes(latent) if short else None)
    said = pa.table([ids, ids, text, pa.array(tokens, pa.int32())], schema=of_texts)
    return pa.table([ids, ids, ids, *columns], schema=of_rows), said


def _write_groups(folder: Path, rows: int, group_rows: int) -> Path:
    """Rows and texts side by side in small row groups. Our writer makes one group of a shard, far slower here."""
    path = folder / f"groups-{group_rows}"
    table, words = _tables(0, rows, LATENT)
    for name in ("text", "text_tokens"):
        table = table.append_column(name, words[name])
    pq.write_table(table, path, row_group_size=group_rows, compression="none", use_dictionary=False)
    return path


def _write_npz(folder: Path, features: FeaturesOnDisk, rows: int) -> None:
    for row in range(rows):
        batch = features.batch(np.array([row]), np.array([0]))
        assert batch.std is not None
        moments = torch.cat([batch.mean[0], batch.std[0]]).float().numpy()
        np.savez(folder / f"{row}.moments.npz", moments=moments)
        np.savez(folder / f"{row}.text.npz", text=batch.text[0, : int(batch.keep.sum())].float().numpy())


def _row_bytes(features: FeaturesOnDisk) -> float:
    columns = [*features.texts.columns]
    for shard in features.shards:
        columns += [shard.mean, shard.std]
    return sum(int(column.sizes.sum()) for column in columns) / len(features)
