"""Features read row by row from their shards on disk, each with the text of its prompt.

Held in memory are ids and places: 24 bytes a row, and what `TextsOnDisk` holds.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import dropwhile
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Bool, Int, Int64, UInt8, UInt16
from torch import Tensor

from lightgen.errors import ConfigError, SchemaMismatch, StoreCorrupt
from lightgen.storage.feature_codec import id_numbers, id_of
from lightgen.storage.parquet import read_parquet
from lightgen.storage.parquet_rows import BinaryColumn, OpenFiles, UncompressedParquet
from lightgen.storage.quantised import Bytes, bits_of, read_std, std_bytes
from lightgen.storage.version import Version
from lightgen.training import counter_rng
from lightgen.training.data import Batch, number_ids
from lightgen.training.layout import BatchLayout
from lightgen.training.shard_files import fetched
from lightgen.training.texts_on_disk import TextsOnDisk

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FeatureFormat:
    """What all shards of a version have in common; `latent_shape` is that of a row, with an axis of two for pairs."""

    latent_shape: tuple[int, ...]
    has_mirrored: bool = False
    short_std: bool = False

    @cached_property
    def std_bytes(self) -> int:
        """Bytes of a row's standard deviations."""
        return std_bytes(self.latent_shape) if self.short_std else 2 * prod(self.latent_shape)


@dataclass(frozen=True)
class FeatureShard:
    """The columns of one file of features."""

    format: FeatureFormat
    mean: BinaryColumn
    std: BinaryColumn
    mirrored: tuple[BinaryColumn, BinaryColumn] | None = None

    def read_std(self, column: BinaryColumn, files: OpenFiles, row: int, into: Bytes, wait: bool = True) -> bool:
        """Write the standard deviations of a row, in float16; whether they are there now (see `BinaryColumn.read`).

        Raises StoreCorrupt.
        """
        if not self.format.short_std:
            return column.read(files, row, into, wait)
        raw = np.empty(self.format.std_bytes, np.uint8)
        if not column.read(files, row, raw, wait):
            return False
        rows, columns = self.format.latent_shape[-2:]
        read_std(raw, into.view(np.float16).reshape(-1, rows * columns))
        return True

    def moments(self, mirror: bool) -> tuple[BinaryColumn, BinaryColumn]:
        """Mean and standard deviation of the latents; of the mirrored images where asked for and stored."""
        return self.mirrored if mirror and self.mirrored else (self.mean, self.std)


class Source(NamedTuple):
    """Where a row of a batch lies: in a shard, with its text elsewhere; and the memory that it is to be written to."""

    shard: FeatureShard
    moments: tuple[BinaryColumn, BinaryColumn]
    row: int
    text_place: tuple[BinaryColumn, int]
    mean: Bytes
    std: Bytes | None
    text: UInt16[np.ndarray, "l t"]


@dataclass(frozen=True)
class FeaturesOnDisk:
    """Features read from their shards. The text of a batch keeps its stored type.

    `rows` are the rows in use, counted over all shards, and `text_numbers` the text of each.
    """

    shards: tuple[FeatureShard, ...]
    first_row: Int64[np.ndarray, " shards"]
    rows: Int64[np.ndarray, " n"]
    ids: Int[Tensor, " n"]
    texts: TextsOnDisk
    text_numbers: Int64[np.ndarray, " n"]
    longest_text: int
    has_std: bool
    files: OpenFiles = field(default_factory=OpenFiles)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def format(self) -> FeatureFormat:
        """What all shards have in common."""
        return self.shards[0].format

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        channels, rows, columns = self.format.latent_shape[-3:]
        return channels, rows, columns

    @property
    def text_dim(self) -> int:
        return self.texts.format.dim

    @property
    def mean_text(self) -> float:
        return float(self.texts.tokens[self.text_numbers].mean())

    def batch(self, rows: np.ndarray, epochs: np.ndarray) -> Batch:
        """The given rows, in one buffer. Raises StoreCorrupt."""
        into = BatchLayout.like(self._empty, len(rows)).zeros()
        self.read_into(rows, epochs, into)
        return into

    def read_into(self, rows: np.ndarray, epochs: np.ndarray, into: Batch) -> None:
        """Read the given rows into `into`: a batch of zeros, or one that this wrote before. Raises StoreCorrupt."""
        into.ids.copy_(self.ids[torch.from_numpy(rows)])
        into.epochs.copy_(torch.from_numpy(epochs))
        sources = self._sources(rows, into)
        # Mostly all is in memory, and asking the disk for it takes time too. From the first row on that is not there,
        # the disk reads all rows side by side.
        late = list(dropwhile(partial(self._read, wait=False), sources))
        for source in late:
            self._prefetch(source)
        for source in late:
            self._read(source)

    def _sources(self, rows: np.ndarray, into: Batch) -> list[Source]:
        numbers = self.text_numbers[rows]
        tokens, text = self.texts.tokens[numbers].tolist(), bits_of(into.text)
        _write_text_mask(tokens, into.keep, text)
        stored = self.rows[rows]
        places = np.searchsorted(self.first_row, stored, side="right") - 1
        shards = [self.shards[place] for place in places.tolist()]
        mirror = _mirror_coins(into) if self.format.has_mirrored else [False] * len(rows)
        moments = [shard.moments(coin) for shard, coin in zip(shards, mirror, strict=True)]
        at = (stored - self.first_row[places]).tolist()
        stds = [None] * len(rows) if into.std is None else _bytes_of(into.std)
        texts = [words[:count] for words, count in zip(text, tokens, strict=True)]
        parts = (shards, moments, at, self.texts.places(numbers), _bytes_of(into.mean), stds, texts)
        return [Source(*one) for one in zip(*parts, strict=True)]

    def _read(self, source: Source, wait: bool = True) -> bool:
        """Read a row; whether all of it is there now (see `BinaryColumn.read`)."""
        mean, std = source.moments
        return (
            mean.read(self.files, source.row, source.mean, wait)
            and (source.std is None or source.shard.read_std(std, self.files, source.row, source.std, wait))
            and self.texts.read(self.files, source.text_place, source.text, wait)
        )

    def _prefetch(self, source: Source) -> None:
        mean, std = source.moments
        mean.prefetch(self.files, source.row)
        if source.std is not None:
            std.prefetch(self.files, source.row)
        column, row = source.text_place
        column.prefetch(self.files, row)

    @property
    def _empty(self) -> Batch:
        """A batch without rows."""
        number = torch.zeros(0, dtype=torch.long)
        latent = torch.zeros(0, *self.format.latent_shape, dtype=torch.float16)
        text = torch.zeros(0, self.longest_text, self.text_dim, dtype=self.texts.format.dtype)
        keep = torch.zeros(0, self.longest_text, dtype=torch.bool)
        return Batch(number, number, latent, latent if self.has_std else None, text, keep)


def open_features(
    version: Version, texts: TextsOnDisk, shards: Sequence[int] | None = None, verify: bool = False
) -> FeaturesOnDisk:
    """The rows of a FEATURES or PAIR_FEATURES version, in its order, with their `texts`; of some `shards` where given.

    Rows whose text stage `texts` refused are left out. Files of a store on S3 are downloaded once, into its cache. With
    `verify` every byte of every shard is read once and checked, on a local store too. Raises StoreCorrupt,
    SchemaMismatch, ConfigError where a row has no text.
    """
    receipts = [r for r in version.manifest.shards if shards is None or r.shard in shards]
    features = open_feature_files(fetched(version, receipts, verify), texts, str(version.ref))
    expected, got = sum(receipt.rows_out for receipt in receipts), int(sum(len(s.mean.sizes) for s in features.shards))
    if got != expected:
        raise StoreCorrupt(f"{version.ref}: expected {expected} rows, got {got}")
    return features


def open_feature_files(paths: Sequence[Path], texts: TextsOnDisk, name: str = "features") -> FeaturesOnDisk:
    """The rows of Parquet files of one FEATURES schema, in order, with their `texts`.

    Standard deviations that are zero in every row are not read. Raises StoreCorrupt, SchemaMismatch, ConfigError.
    """
    files = [UncompressedParquet(path) for path in paths]
    formats = [_format(file) for file in files]
    if not formats:
        raise SchemaMismatch("no features to train on: all shards are empty")
    for path, found in zip(paths, formats, strict=True):
        if found != formats[0]:
            raise SchemaMismatch(f"{path}: expected {formats[0]} as in the first shard, got {found}")
    known = [_ids(path) for path in paths]
    ids, prompts = torch.cat([ids for ids, _ in known]), np.concatenate([prompts for _, prompts in known])
    shards = tuple(_shard(file, formats[0]) for file in files)
    first_row = np.cumsum([0, *(file.rows for file in files[:-1])])
    numbers = texts.find(prompts)
    rows = _rows_with_text(numbers, prompts, texts, name)
    has_std = any(_any_std(shard) for shard in shards)
    numbers, longest = numbers[rows], int(texts.tokens[numbers[rows]].max())
    return FeaturesOnDisk(shards, first_row, rows, ids[torch.from_numpy(rows)], texts, numbers, longest, has_std)


def _rows_with_text(
    numbers: Int64[np.ndarray, " n"], prompts: np.ndarray, texts: TextsOnDisk, name: str
) -> Int64[np.ndarray, " m"]:
    """The rows that have a text. Rows of refused texts are left out and told; others without one are an error."""
    missing = prompts[numbers < 0]
    unknown = missing[~np.isin(missing, texts.refused)]
    if len(unknown):
        first = id_of(unknown.tolist()[0])
        raise ConfigError(
            f"{name}: {len(unknown)} of {len(prompts)} rows have no text, the first of prompt {first}; "
            "give the TEXTS that stage texts made of the prompts of these images"
        )
    if len(missing):
        log.warning("%s: %d of %d rows are left out: stage texts refused their text", name, len(missing), len(prompts))
    if len(missing) == len(prompts):
        raise SchemaMismatch(f"{name}: no features to train on: all texts were refused")
    return np.flatnonzero(numbers >= 0)


def _ids(path: Path) -> tuple[Int[Tensor, " rows"], np.ndarray]:
    """The numbers of rows and of their prompts."""
    table = read_parquet(pa.memory_map(str(path)).read_buffer(), ["id", "prompt_id"], str(path))
    return number_ids(table.column("id").to_pylist()), id_numbers(table.column("prompt_id").to_pylist())


def _shard(file: UncompressedParquet, format: FeatureFormat) -> FeatureShard:
    names = ["latent_mean", "latent_std", *(["mirrored_mean", "mirrored_std"] if format.has_mirrored else [])]
    columns = [file.fixed_size_column(name) for name in names]
    for place, column in enumerate(columns):
        needed = format.std_bytes if place % 2 else 2 * prod(format.latent_shape)
        if set(column.sizes.tolist()) != {needed}:
            raise SchemaMismatch(f"{column.label}: latents of {format.latent_shape} need {needed} bytes a row")
    mean, std, *mirrored = columns
    return FeatureShard(format, mean, std, (mirrored[0], mirrored[1]) if mirrored else None)


def _format(file: UncompressedParquet) -> FeatureFormat:
    try:
        latent = file.schema.field("latent_mean").metadata or {}
        shape = tuple(int(size) for size in latent[b"shape"].split(b","))
        short = {None: False, b"log8": True}[(file.schema.field("latent_std").metadata or {}).get(b"codec")]
        return FeatureFormat(shape, "mirrored_mean" in file.schema.names, short)
    except KeyError as error:
        raise SchemaMismatch(f"{file.path}: {error} is missing or unknown; stage encode did not write this") from None


def _mirror_coins(batch: Batch) -> list[bool]:
    """One fair coin for each sample in its epoch: whether the mirrored image is read."""
    keys = counter_rng.stream(counter_rng.sample_keys(batch.ids, batch.epochs, 0), "mirror")
    return (counter_rng.bits(keys, 1)[:, 0] < 0).tolist()


def _any_std(shard: FeatureShard) -> bool:
    """Whether any standard deviation is not zero. The first row nearly always decides; else all are read."""
    files, value = OpenFiles(), np.zeros(2 * prod(shard.format.latent_shape), np.uint8)
    for row in range(len(shard.std.sizes)):
        shard.read_std(shard.std, files, row, value)
        # All bits of a float16 but the sign: minus zero is zero too.
        if (value.view(np.uint16) & 0x7FFF).any():
            return True
    return False


def _write_text_mask(tokens: list[int], keep: Bool[Tensor, "b l"], text: UInt16[np.ndarray, "b l t"]) -> None:
    """Write the mask of texts of `tokens` tokens, and zero what a longer text left behind them.

    Zeroing all padding would take as long as reading: texts are mostly padding.
    """
    were = np.count_nonzero(keep.numpy(), axis=1).tolist()
    for number, (new, old) in enumerate(zip(tokens, were, strict=True)):
        text[number, new:old] = 0
    # An empty text keeps one padding vector, for attention needs a key.
    kept = np.arange(keep.shape[1]) < np.maximum(tokens, 1)[:, None]
    keep.copy_(torch.from_numpy(kept))


def _bytes_of(values: Tensor) -> UInt8[np.ndarray, "b size"]:
    """The memory of a tensor as bytes, to be written to."""
    assert values.is_contiguous(), "a copy would be written, and lost"
    return values.flatten(1).view(torch.uint8).numpy()
