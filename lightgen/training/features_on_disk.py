"""Features read row by row from their shards on disk. Only ids and text lengths are held in memory."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Int, Int64, UInt8
from torch import Tensor

from lightgen.errors import SchemaMismatch, StoreCorrupt
from lightgen.storage.feature_codec import TORCH_DTYPES
from lightgen.storage.parquet import read_parquet
from lightgen.storage.parquet_rows import BinaryColumn, OpenFiles, UncompressedParquet
from lightgen.storage.version import Version
from lightgen.training import counter_rng
from lightgen.training.data import Batch, number_ids
from lightgen.training.layout import BatchLayout
from schemas.documents import FileEntry


@dataclass(frozen=True)
class FeatureFormat:
    """What all shards of a version have in common; `latent_shape` is that of a row, with an axis of two for pairs."""

    latent_shape: tuple[int, ...]
    text_dim: int
    text_dtype: torch.dtype
    has_mirrored: bool = False


@dataclass(frozen=True)
class FeatureShard:
    """The columns of one file of features."""

    format: FeatureFormat
    mean: BinaryColumn
    std: BinaryColumn
    text: BinaryColumn
    mirrored: tuple[BinaryColumn, BinaryColumn] | None = None

    def moments(self, mirror: bool) -> tuple[BinaryColumn, BinaryColumn]:
        """Mean and standard deviation of the latents; of the mirrored images where asked for and stored."""
        return self.mirrored if mirror and self.mirrored else (self.mean, self.std)


@dataclass(frozen=True)
class FeaturesOnDisk:
    """Features read from their shards. The text of a batch keeps its stored type."""

    shards: tuple[FeatureShard, ...]
    first_row: Int64[np.ndarray, " shards"]
    ids: Int[Tensor, " n"]
    text_tokens: Int64[np.ndarray, " n"]
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
        return self.format.text_dim

    @property
    def longest_text(self) -> int:
        return int(self.text_tokens.max())

    def batch(self, rows: np.ndarray, epochs: np.ndarray) -> Batch:
        """The given rows, in one buffer. Raises StoreCorrupt."""
        into = BatchLayout.like(self._empty, len(rows)).zeros()
        self.read_into(rows, epochs, into)
        return into

    def read_into(self, rows: np.ndarray, epochs: np.ndarray, into: Batch) -> None:
        """Read the given rows into `into`: a batch of zeros, or one that this wrote before. Raises StoreCorrupt."""
        into.ids.copy_(self.ids[torch.from_numpy(rows)])
        into.epochs.copy_(torch.from_numpy(epochs))
        _write_text_mask(self.text_tokens[rows], into)
        numbers = np.searchsorted(self.first_row, rows, side="right") - 1
        shards = [self.shards[number] for number in numbers]
        moments = [shard.moments(bool(mirror)) for shard, mirror in zip(shards, _mirror_coins(into), strict=True)]
        sources = list(zip(shards, moments, (rows - self.first_row[numbers]).tolist(), strict=True))
        for shard, (mean, std), row in sources:
            for column in (mean, std, shard.text) if self.has_std else (mean, shard.text):
                column.prefetch(self.files, row)
        means, texts = _bytes_of(into.mean), _bytes_of(into.text)
        stds = None if into.std is None else _bytes_of(into.std)
        for number, (shard, (mean, std), row) in enumerate(sources):
            mean.read(self.files, row, means[number])
            shard.text.read(self.files, row, texts[number, : shard.text.sizes[row]])
            if stds is not None:
                std.read(self.files, row, stds[number])

    @property
    def _empty(self) -> Batch:
        """A batch without rows."""
        number = torch.zeros(0, dtype=torch.long)
        latent = torch.zeros(0, *self.format.latent_shape, dtype=torch.float16)
        text = torch.zeros(0, self.longest_text, self.text_dim, dtype=self.format.text_dtype)
        keep = torch.zeros(0, self.longest_text, dtype=torch.bool)
        return Batch(number, number, latent, latent if self.has_std else None, text, keep)


def open_features(version: Version, shards: Sequence[int] | None = None, verify: bool = False) -> FeaturesOnDisk:
    """The rows of a FEATURES or PAIR_FEATURES version, in its order; of some `shards` where given.

    Files of a store on S3 are downloaded once, into its cache. With `verify` every byte of every shard is read once and
    checked, on a local store too. Raises StoreCorrupt, SchemaMismatch.
    """
    receipts = [r for r in version.manifest.shards if shards is None or r.shard in shards]
    entries = [entry for receipt in receipts for entry in receipt.files if entry.role == "table"]
    if verify:
        for entry in entries:
            version.read(entry)
    paths = [_fetched(version, entry) for entry in entries if entry.rows]
    features = open_feature_files(paths)
    expected = sum(receipt.rows_out for receipt in receipts)
    if len(features) != expected:
        raise StoreCorrupt(f"{version.ref}: expected {expected} rows, got {len(features)}")
    return features


def open_feature_files(paths: Sequence[Path]) -> FeaturesOnDisk:
    """The rows of Parquet files of one FEATURES schema, in order.

    Standard deviations that are zero in every row are not read. Raises StoreCorrupt, SchemaMismatch.
    """
    files = [UncompressedParquet(path) for path in paths]
    formats = [_format(file) for file in files]
    if not formats:
        raise SchemaMismatch("no features to train on: all shards are empty")
    for path, found in zip(paths, formats, strict=True):
        if found != formats[0]:
            raise SchemaMismatch(f"{path}: expected {formats[0]} as in the first shard, got {found}")
    known = [_ids_and_tokens(path) for path in paths]
    shards = tuple(_shard(file, formats[0], tokens) for file, (_, tokens) in zip(files, known, strict=True))
    first_row = np.cumsum([0, *(file.rows for file in files[:-1])])
    ids, tokens = torch.cat([ids for ids, _ in known]), np.concatenate([tokens for _, tokens in known])
    return FeaturesOnDisk(shards, first_row, ids, tokens, any(_any_std(shard) for shard in shards))


def _fetched(version: Version, entry: FileEntry) -> Path:
    key = f"{version.folder}/{entry.path}"
    try:
        path = version.files.fetch(key, entry.sha256, entry.bytes)
        size = path.stat().st_size
    except FileNotFoundError:
        raise StoreCorrupt(f"{key}: is missing; run `lightgen verify`") from None
    if size != entry.bytes:
        raise StoreCorrupt(f"{key}: expected {entry.bytes} bytes, got {size}; run `lightgen verify`")
    return path


def _ids_and_tokens(path: Path) -> tuple[Int[Tensor, " rows"], Int64[np.ndarray, " rows"]]:
    table = read_parquet(pa.memory_map(str(path)).read_buffer(), ["id", "text_tokens"], str(path))
    return number_ids(table.column("id").to_pylist()), table.column("text_tokens").to_numpy().astype(np.int64)


def _shard(file: UncompressedParquet, format: FeatureFormat, tokens: Int64[np.ndarray, " rows"]) -> FeatureShard:
    text = file.variable_size_column("text", tokens * format.text_dim * format.text_dtype.itemsize)
    names = ["latent_mean", "latent_std", *(["mirrored_mean", "mirrored_std"] if format.has_mirrored else [])]
    columns, needed = [file.fixed_size_column(name) for name in names], 2 * prod(format.latent_shape)
    for column in columns:
        if set(column.sizes.tolist()) != {needed}:
            raise SchemaMismatch(f"{column.label}: {format.latent_shape} in float16 needs {needed} bytes a row")
    mean, std, *mirrored = columns
    return FeatureShard(format, mean, std, text, (mirrored[0], mirrored[1]) if mirrored else None)


def _format(file: UncompressedParquet) -> FeatureFormat:
    try:
        latent, text = (file.schema.field(name).metadata or {} for name in ("latent_mean", "text"))
        return FeatureFormat(
            tuple(int(size) for size in latent[b"shape"].split(b",")),
            int(text[b"shape"].split(b",")[1]),
            TORCH_DTYPES[text[b"dtype"].decode()],
            "mirrored_mean" in file.schema.names,
        )
    except KeyError as error:
        raise SchemaMismatch(f"{file.path}: {error} is missing or unknown; stage encode did not write this") from None


def _mirror_coins(batch: Batch) -> np.ndarray:
    """One fair coin for each sample in its epoch: whether the mirrored image is read."""
    keys = counter_rng.stream(counter_rng.sample_keys(batch.ids, batch.epochs, 0), "mirror")
    return (counter_rng.bits(keys, 1)[:, 0] < 0).numpy()


def _any_std(shard: FeatureShard) -> bool:
    """Whether any standard deviation is not zero. The first row nearly always decides; else all are read."""
    files, value = OpenFiles(), np.zeros(2 * prod(shard.format.latent_shape), np.uint8)
    for row in range(len(shard.std.sizes)):
        shard.std.read(files, row, value)
        # All bits of a float16 but the sign: minus zero is zero too.
        if (value.view(np.uint16) & 0x7FFF).any():
            return True
    return False


def _write_text_mask(tokens: Int64[np.ndarray, " b"], into: Batch) -> None:
    """Write the mask of texts of `tokens` tokens, and zero what a longer text left behind them.

    Zeroing all padding would take as long as reading: texts are mostly padding.
    """
    before = into.keep.sum(1).tolist()
    for number, (new, old) in enumerate(zip(tokens.tolist(), before, strict=True)):
        into.text[number, new:old] = 0
    # An empty text keeps one padding vector, for attention needs a key.
    kept = np.arange(into.keep.shape[1]) < np.maximum(tokens, 1)[:, None]
    into.keep.copy_(torch.from_numpy(kept))


def _bytes_of(values: Tensor) -> UInt8[np.ndarray, "b size"]:
    """The memory of a tensor as bytes, to be written to."""
    assert values.is_contiguous(), "a copy would be written, and lost"
    return values.flatten(1).view(torch.uint8).numpy()
