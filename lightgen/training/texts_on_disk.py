"""Texts read by prompt from their shards on disk. Held in memory: 16 bytes of id and three integers a text."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Int64, UInt16

from lightgen.errors import SchemaMismatch, StoreCorrupt
from lightgen.storage.feature_codec import TORCH_DTYPES, id_numbers, id_of
from lightgen.storage.parquet import read_parquet
from lightgen.storage.parquet_rows import BinaryColumn, OpenFiles, UncompressedParquet
from lightgen.storage.quantised import read_text, text_bytes
from lightgen.storage.version import Version
from lightgen.training.shard_files import fetched


@dataclass(frozen=True)
class TextFormat:
    """What all shards of a version have in common."""

    dim: int
    dtype: torch.dtype
    quantised: bool = False

    @cached_property
    def token_bytes(self) -> int:
        """Bytes of a token on the disk."""
        return text_bytes(self.dim) if self.quantised else self.dim * self.dtype.itemsize


@dataclass(frozen=True)
class TextsOnDisk:
    """Texts read from their shards. A text is named by its number: its place among all, in the order of the shards.

    `ids` are those of the prompts, sorted, and `numbers` belong to them; `refused` are prompts whose text stage `texts`
    refused.
    """

    format: TextFormat
    columns: tuple[BinaryColumn, ...]
    first: Int64[np.ndarray, " shards"]
    tokens: Int64[np.ndarray, " n"]
    ids: np.ndarray
    numbers: Int64[np.ndarray, " n"]
    refused: np.ndarray

    def __len__(self) -> int:
        return len(self.tokens)

    def find(self, prompts: np.ndarray) -> Int64[np.ndarray, " m"]:
        """The numbers of the texts of `prompts` (see `id_numbers`); -1 where there is none."""
        order = np.argsort(prompts, kind="stable")  # a search in order is several times as fast
        place = np.minimum(np.searchsorted(self.ids, prompts[order]), max(len(self.ids) - 1, 0))
        found = np.full(len(prompts), -1, np.int64)
        if len(self.ids):
            found[order] = np.where(self.ids[place] == prompts[order], self.numbers[place], -1)
        return found

    def places(self, numbers: Int64[np.ndarray, " b"]) -> list[tuple[BinaryColumn, int]]:
        """Where the texts of these numbers lie."""
        shards = np.searchsorted(self.first, numbers, side="right") - 1
        rows = numbers - self.first[shards]
        return [(self.columns[shard], row) for shard, row in zip(shards.tolist(), rows.tolist(), strict=True)]

    def read(
        self, files: OpenFiles, place: tuple[BinaryColumn, int], into: UInt16[np.ndarray, "l t"], wait: bool = True
    ) -> bool:
        """Write the text at that place into `into`, the bits of as many tokens as it has; whether it is there now (see
        `BinaryColumn.read`). Raises StoreCorrupt."""
        column, row = place
        if not self.format.quantised:
            return column.read(files, row, into, wait)
        raw = np.empty(len(into) * self.format.token_bytes, np.uint8)
        if not column.read(files, row, raw, wait):
            return False
        read_text(raw, into, self.format.dtype)
        return True


def open_texts(version: Version, verify: bool = False) -> TextsOnDisk:
    """The texts of a TEXTS version. With `verify` every byte is read once and checked. Raises StoreCorrupt,
    SchemaMismatch."""
    refused = [
        id for r in version.manifest.shards if r.rows_rejected for id in version.rejects(r.shard)["id"].to_pylist()
    ]
    return open_text_files(fetched(version, version.manifest.shards, verify), refused)


def open_text_files(paths: Sequence[Path], refused: Sequence[str] = ()) -> TextsOnDisk:
    """The texts of Parquet files of one TEXTS schema. Raises StoreCorrupt, SchemaMismatch."""
    files = [UncompressedParquet(path) for path in paths]
    formats = [_format(file) for file in files]
    if not formats:
        raise SchemaMismatch("no texts to train on: all shards are empty")
    for path, found in zip(paths, formats, strict=True):
        if found != formats[0]:
            raise SchemaMismatch(f"{path}: expected {formats[0]} as in the first shard, got {found}")
    known = [_ids_and_tokens(path) for path in paths]
    columns = tuple(_column(file, formats[0], tokens) for file, (_, tokens) in zip(files, known, strict=True))
    first = np.cumsum([0, *(file.rows for file in files[:-1])])
    ids, tokens = (np.concatenate(parts) for parts in zip(*known, strict=True))
    order = np.argsort(ids, kind="stable")
    ids = ids[order]
    twice = np.flatnonzero(ids[1:] == ids[:-1])
    if len(twice):
        raise StoreCorrupt(
            f"{paths[0].parent}: prompt {id_of(ids[twice].tolist()[0])} has two texts; run `lightgen verify`"
        )
    return TextsOnDisk(formats[0], columns, first, tokens, ids, order, id_numbers(refused))


def _ids_and_tokens(path: Path) -> tuple[np.ndarray, Int64[np.ndarray, " rows"]]:
    table = read_parquet(pa.memory_map(str(path)).read_buffer(), ["id", "text_tokens"], str(path))
    return id_numbers(table.column("id").to_pylist()), table.column("text_tokens").to_numpy().astype(np.int64)


def _column(file: UncompressedParquet, format: TextFormat, tokens: Int64[np.ndarray, " rows"]) -> BinaryColumn:
    return file.variable_size_column("text", tokens * format.token_bytes)


def _format(file: UncompressedParquet) -> TextFormat:
    try:
        text = file.schema.field("text").metadata or {}
        known = {None: False, b"int8": True}
        dtype, quantised = TORCH_DTYPES[text[b"dtype"].decode()], known[text.get(b"codec")]
        return TextFormat(int(text[b"shape"].split(b",")[1]), dtype, quantised)
    except KeyError as error:
        raise SchemaMismatch(f"{file.path}: {error} is missing or unknown; stage texts did not write this") from None
