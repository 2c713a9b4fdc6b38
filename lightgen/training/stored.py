"""Features read from their shards, row by row, while training: only ids and lengths of texts are held in memory."""

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
from lightgen.storage.mapped import Column, OpenFiles, PlainFile
from lightgen.storage.parquet import read_parquet
from lightgen.storage.version import Version
from lightgen.training import keyed
from lightgen.training.data import Batch, number_ids
from lightgen.training.packing import Packing
from schemas.documents import FileEntry


@dataclass(frozen=True)
class Form:
    """What every shard of a version has in common; `shape` is that of a row's latents, one or those of a pair."""

    shape: tuple[int, ...]
    text_dim: int
    text_dtype: torch.dtype
    mirrored: bool = False


@dataclass(frozen=True)
class Shard:
    """Where the rows of one file of features lie."""

    form: Form
    mean: Column
    std: Column
    text: Column
    mirrored: tuple[Column, Column] | None = None

    def moments(self, mirror: bool) -> tuple[Column, Column]:
        """Mean and standard deviation of the images, or of the mirrored ones where stage encode kept them."""
        return self.mirrored if mirror and self.mirrored else (self.mean, self.std)


@dataclass(frozen=True)
class StoredFeatures:
    """Features on disk. The text of a batch keeps its stored type."""

    shards: tuple[Shard, ...]
    first: Int64[np.ndarray, " shards"]
    ids: Int[Tensor, " n"]
    text_tokens: Int64[np.ndarray, " n"]
    has_std: bool
    files: OpenFiles = field(default_factory=OpenFiles)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def form(self) -> Form:
        """What every shard has in common."""
        return self.shards[0].form

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, rows, columns."""
        channels, rows, columns = self.form.shape[-3:]
        return channels, rows, columns

    @property
    def text_dim(self) -> int:
        """Channels of the text."""
        return self.form.text_dim

    @property
    def longest_text(self) -> int:
        """Tokens of the longest text: every batch is padded to it, so that shapes do not change."""
        return int(self.text_tokens.max())

    def batch(self, rows: np.ndarray, visits: np.ndarray) -> Batch:
        """The given rows, in one piece of memory. Raises StoreCorrupt."""
        into = Packing.like(self._empty, len(rows)).zeros()
        self.fill(rows, visits, into)
        return into

    def fill(self, rows: np.ndarray, visits: np.ndarray, into: Batch) -> None:
        """Read the given rows into a batch of zeros, or one that was filled before. Raises StoreCorrupt."""
        into.ids.copy_(self.ids[torch.from_numpy(rows)])
        into.visits.copy_(torch.from_numpy(visits))
        _mark_text(self.text_tokens[rows], into)
        numbers = np.searchsorted(self.first, rows, side="right") - 1
        shards = [self.shards[number] for number in numbers]
        moments = [shard.moments(bool(mirror)) for shard, mirror in zip(shards, _coins(into), strict=True)]
        places = list(zip(shards, moments, (rows - self.first[numbers]).tolist(), strict=True))
        for shard, (mean, std), row in places:
            for column in (mean, std, shard.text) if self.has_std else (mean, shard.text):
                column.expect(self.files, row)
        means, texts = _bytes(into.mean), _bytes(into.text)
        stds = None if into.std is None else _bytes(into.std)
        for number, (shard, (mean, std), row) in enumerate(places):
            mean.read(self.files, row, means[number])
            shard.text.read(self.files, row, texts[number, : shard.text.size[row]])
            if stds is not None:
                std.read(self.files, row, stds[number])

    @property
    def _empty(self) -> Batch:
        """A batch without rows."""
        number, latent = torch.zeros(0, dtype=torch.long), torch.zeros(0, *self.form.shape, dtype=torch.float16)
        text = torch.zeros(0, self.longest_text, self.text_dim, dtype=self.form.text_dtype)
        keep = torch.zeros(0, self.longest_text, dtype=torch.bool)
        return Batch(number, number, latent, latent if self.has_std else None, text, keep)


def stored_features(version: Version, shards: Sequence[int] | None = None, verify: bool = False) -> StoredFeatures:
    """The rows of a FEATURES or PAIR_FEATURES version, in its order; of some `shards` where given.

    Files of a store on S3 are downloaded once, into its cache. `verify` reads every byte of every shard once, on a
    local store too. Raises StoreCorrupt, SchemaMismatch.
    """
    receipts = [r for r in version.manifest.shards if shards is None or r.shard in shards]
    entries = [entry for receipt in receipts for entry in receipt.files if entry.role == "table"]
    if verify:
        for entry in entries:
            version.read(entry)
    paths = [_fetched(version, entry) for entry in entries if entry.rows]
    features = features_of_files(paths)
    expected = sum(receipt.rows_out for receipt in receipts)
    if len(features) != expected:
        raise StoreCorrupt(f"{version.ref}: expected {expected} rows, got {len(features)}")
    return features


def features_of_files(paths: Sequence[Path]) -> StoredFeatures:
    """The rows of Parquet files of one FEATURES schema, in order; a spread of zero everywhere is dropped.

    Raises StoreCorrupt, SchemaMismatch.
    """
    files = [PlainFile(path) for path in paths]
    forms = [_form(file) for file in files]
    if not forms:
        raise SchemaMismatch("no features to train on: all shards are empty")
    for path, form in zip(paths, forms, strict=True):
        if form != forms[0]:
            raise SchemaMismatch(f"{path}: expected {forms[0]} as in the first shard, got {form}")
    known = [_ids_and_tokens(path) for path in paths]
    shards = tuple(_shard(file, forms[0], tokens) for file, (_, tokens) in zip(files, known, strict=True))
    first = np.cumsum([0, *(file.rows for file in files[:-1])])
    ids, tokens = torch.cat([ids for ids, _ in known]), np.concatenate([tokens for _, tokens in known])
    return StoredFeatures(shards, first, ids, tokens, any(_spreads(shard) for shard in shards))


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


def _shard(file: PlainFile, form: Form, tokens: Int64[np.ndarray, " rows"]) -> Shard:
    text = file.variable("text", tokens * form.text_dim * form.text_dtype.itemsize)
    names = ["latent_mean", "latent_std", *(["mirrored_mean", "mirrored_std"] if form.mirrored else [])]
    columns, needed = [file.fixed(name) for name in names], 2 * prod(form.shape)
    for column in columns:
        if set(column.size.tolist()) != {needed}:
            raise SchemaMismatch(f"{column.where}: {form.shape} in float16 needs {needed} bytes a row")
    mean, std, *mirrored = columns
    return Shard(form, mean, std, text, (mirrored[0], mirrored[1]) if mirrored else None)


def _form(file: PlainFile) -> Form:
    try:
        latent, text = (file.schema.field(name).metadata or {} for name in ("latent_mean", "text"))
        return Form(
            tuple(int(size) for size in latent[b"shape"].split(b",")),
            int(text[b"shape"].split(b",")[1]),
            TORCH_DTYPES[text[b"dtype"].decode()],
            "mirrored_mean" in file.schema.names,
        )
    except KeyError as error:
        raise SchemaMismatch(f"{file.path}: {error} is missing or unknown; stage encode did not write this") from None


def _coins(batch: Batch) -> np.ndarray:
    """One fair coin for each sample and visit of it: whether the mirrored image is read."""
    keys = keyed.stream(keyed.keys_for(batch.ids, batch.visits, 0), "mirror")
    return (keyed.bits(keys, 1)[:, 0] < 0).numpy()


def _spreads(shard: Shard) -> bool:
    """Whether any standard deviation is not zero. The first row nearly always decides; else all are read."""
    files, value = OpenFiles(), np.zeros(2 * prod(shard.form.shape), np.uint8)
    for row in range(len(shard.std.size)):
        shard.std.read(files, row, value)
        # All bits of a float16 but the sign: minus zero is no spread either.
        if (value.view(np.uint16) & 0x7FFF).any():
            return True
    return False


def _mark_text(tokens: Int64[np.ndarray, " b"], into: Batch) -> None:
    """Mark the words to come, and clear those of the rows before that would show behind them.

    Clearing all padding would take as long as reading: texts are mostly padding.
    """
    before = into.keep.sum(1).tolist()
    for number, (new, old) in enumerate(zip(tokens.tolist(), before, strict=True)):
        into.text[number, new:old] = 0
    # An empty text keeps one padding vector, for attention needs a key.
    kept = np.arange(into.keep.shape[1]) < np.maximum(tokens, 1)[:, None]
    into.keep.copy_(torch.from_numpy(kept))


def _bytes(values: Tensor) -> UInt8[np.ndarray, "b size"]:
    """The memory of a tensor, to be written."""
    assert values.is_contiguous(), "a copy would be written, and lost"
    return values.flatten(1).view(torch.uint8).numpy()
