"""Features of a shard of images or of pairs: the pure part of the stages `encode` and `encode_pairs`."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lightgen.ahead import one_ahead
from lightgen.encoders.crop import read_square
from lightgen.encoders.mirror import Flips, may_mirror
from lightgen.encoders.vae import Vae
from lightgen.errors import SchemaMismatch
from lightgen.progress import Progress
from lightgen.storage.feature_codec import latent_array, std_array, stds_from_table
from lightgen.storage.pixels import BadImage
from lightgen.storage.quantised import DAMAGE_FILE, Damage, std_bytes
from lightgen.storage.shards import Reject, ShardOutput
from schemas import features


@dataclass(frozen=True)
class Encoder:
    """The VAE with its settings: the pure part of the stages, one shard at a time.

    Latents of a row have `sides` as their leading axis where it is not 1; `workers` threads decode.
    """

    size_px: int
    batch: int
    vae: Vae
    flips: Flips = "off"
    sides: int = 1
    workers: int = 2
    std_bits: int = 16
    max_error: float = 0.02

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, rows and columns of a latent."""
        return self.vae.latent_shape(self.size_px)

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema of the features."""
        shape = self.shape if self.sides == 1 else (self.sides, *self.shape)
        return features.schema(shape, self.flips != "off", std_bytes(shape) if self.std_bits == 8 else None)

    def shard(self, table: pa.Table, images: dict[str, bytes], progress: Progress) -> ShardOutput:
        """Features of the rows of `table` (id, prompt_id, caption), in their order."""
        ids, captions = table.column("id").to_pylist(), table.column("caption").to_pylist()
        allowed = {id for id, caption in zip(ids, captions, strict=True) if may_mirror(caption, self.flips)}
        made = _Moments(self.shape, 4 if self.flips != "off" else 2)
        for batch, squares in self._decoded([(id, images[id]) for id in ids], made.broken):
            moments = [*self._encode(squares)]
            if self.flips != "off":
                moments += self._mirrored(batch, squares, allowed, *moments)
            made.add(batch, moments)
            progress.advance(len(batch))
        return self._output(table, made.ids, made.joined(), made.reasons)

    def pairs(self, table: pa.Table, images: Sequence[dict[str, bytes]], progress: Progress) -> ShardOutput:
        """Features of pairs (id, prompt_id, caption): `images` has the files of one side after the other, by id."""
        ids = table.column("id").to_pylist()
        sides = [_Moments(self.shape, 2) for _ in images]
        for side, files in zip(sides, images, strict=True):
            for batch, squares in self._decoded([(id, files[id]) for id in ids], side.broken):
                side.add(batch, [*self._encode(squares)])
                progress.advance(len(batch) if side is sides[0] else 0)
        reasons = {id: why for side in sides for id, why in side.reasons.items()}
        whole = [id for id in ids if id not in reasons]
        stacked = zip(*(side.of(whole) for side in sides), strict=True)
        return self._output(table, whole, [torch.stack(both, dim=1) for both in stacked], reasons)

    def _decoded(
        self, files: list[tuple[str, bytes]], broken: dict[str, BadImage]
    ) -> Iterator[tuple[list[str], list[Tensor]]]:
        """Batches of ids and squares, decoded by threads while the VAE works on the batch before."""
        with ThreadPoolExecutor(self.workers) as pool:
            starts = range(0, len(files), self.batch)
            decoding = (self._begin(pool, files[start : start + self.batch]) for start in starts)
            for batch, reading in one_ahead(decoding):
                read = dict(zip(batch, reading, strict=True))
                broken |= {id: square for id, square in read.items() if isinstance(square, BadImage)}
                good = {id: square for id, square in read.items() if not isinstance(square, BadImage)}
                if good:
                    yield list(good), list(good.values())

    def _begin(
        self, pool: ThreadPoolExecutor, files: list[tuple[str, bytes]]
    ) -> tuple[list[str], Iterator[Tensor | BadImage]]:
        return [id for id, _ in files], pool.map(lambda file: read_square(file[1], self.size_px), files)

    def _output(
        self, table: pa.Table, encoded: list[str], moments: list[Tensor], reasons: dict[str, tuple[str, str]]
    ) -> ShardOutput:
        """Rows of `table`: those `encoded`, whose moments are finite, and the others with their reasons."""
        ids = table.column("id").to_pylist()
        places = {id: place for place, id in enumerate(encoded)}
        finite = torch.stack([_finite(moment) for moment in moments]).all(0)
        nonfinite = ("feature_nonfinite", "a latent moment is not a finite float16")
        reasons |= {id: nonfinite for id, place in places.items() if not bool(finite[place])}
        good = [row for row, id in enumerate(ids) if id not in reasons]
        rows = table.select(["id", "prompt_id", "caption"]).to_pylist()
        rejects = [Reject(rows[i]["id"], *reasons[ids[i]], row=rows[i]) for i in range(len(rows)) if ids[i] in reasons]
        chosen = torch.tensor([places[ids[row]] for row in good], dtype=torch.long)
        made = self._table(table.take(pa.array(good, pa.int64())), [moment[chosen] for moment in moments])
        extras = self._measured(made, [moment[chosen] for moment in moments[1::2]])
        return ShardOutput(table=made, schema=self.schema, rejects=rejects, rows_in=table.num_rows, extras=extras)

    def _encode(self, squares: list[Tensor]) -> tuple[Tensor, Tensor]:
        mean, std = self.vae.encode(torch.stack(squares))
        if tuple(mean.shape[1:]) != self.shape or mean.shape != std.shape:
            raise SchemaMismatch(f"FeatureShape: the VAE gave {tuple(mean.shape[1:])}, expected {self.shape}")
        # float16 at once: a shard of 512 px features is 260 MB this way and would be a gigabyte with its copies.
        return mean.half(), std.half()

    def _mirrored(
        self, ids: list[str], squares: list[Tensor], allowed: set[str], mean: Tensor, std: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Moments of the mirrored images; of those that must not be, the plain ones."""
        places = [place for place, id in enumerate(ids) if id in allowed]
        if not places:
            return mean, std
        mirrored = mean.clone(), std.clone()
        for moment, made in zip(mirrored, self._encode([squares[place].flip(1) for place in places]), strict=True):
            moment[places] = made
        return mirrored

    def _table(self, rows: pa.Table, moments: list[Tensor]) -> pa.Table:
        columns = [rows.column(name).combine_chunks() for name in ("id", "prompt_id", "caption")]
        stored = [
            std_array(moment) if place % 2 and self.std_bits == 8 else latent_array(moment)
            for place, moment in enumerate(moments)
        ]
        return pa.Table.from_arrays([*columns, *stored], schema=self.schema)

    def _measured(self, made: pa.Table, stds: list[Tensor]) -> dict[str, bytes]:
        """How far the stored deviations are from `stds`. Raises ConfigError where that is too much."""
        if self.std_bits == 16:
            return {}
        damage = Damage()
        for name, std in zip(("latent_std", "mirrored_std"), stds, strict=False):
            damage.add(std.flatten(1).float(), stds_from_table(made, name).flatten(1).float())
        damage.check(self.max_error, "deviations of latents", "std_bits: 16")
        return {DAMAGE_FILE: damage.report()}


class _Moments:
    """Moments of a shard, gathered batch by batch."""

    def __init__(self, shape: tuple[int, int, int], count: int) -> None:
        self.ids: list[str] = []
        self.broken: dict[str, BadImage] = {}
        self._parts = [[torch.zeros(0, *shape, dtype=torch.float16)] for _ in range(count)]

    @property
    def reasons(self) -> dict[str, tuple[str, str]]:
        """Why images have no moments, by id."""
        return {id: (bad.reason, bad.detail) for id, bad in self.broken.items()}

    def add(self, ids: list[str], moments: list[Tensor]) -> None:
        """A batch more."""
        self.ids += ids
        for parts, moment in zip(self._parts, moments, strict=True):
            parts.append(moment)

    def joined(self) -> list[Tensor]:
        """Moments of all, in the order of `ids`."""
        return [torch.cat(parts) for parts in self._parts]

    def of(self, ids: list[str]) -> list[Tensor]:
        """Moments of `ids`, in their order."""
        places = {id: place for place, id in enumerate(self.ids)}
        chosen = torch.tensor([places[id] for id in ids], dtype=torch.long)
        return [moment[chosen] for moment in self.joined()]


def _finite(moments: Float[Tensor, "n ... c h w"]) -> Bool[Tensor, " n"]:
    return torch.isfinite(moments).flatten(1).all(1)
