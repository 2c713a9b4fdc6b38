"""Features of a shard of images or of pairs: the pure part of the stages `encode` and `encode_pairs`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lightgen.encoders.crop import read_square
from lightgen.encoders.mirror import may_mirror
from lightgen.encoders.text import TextEncoder
from lightgen.encoders.vae import Vae
from lightgen.errors import SchemaMismatch
from lightgen.progress import SILENT, Progress
from lightgen.storage.feature_codec import latent_array, text_array
from lightgen.storage.pixels import BadImage
from lightgen.storage.shards import Reject, ShardOutput
from schemas import features


@dataclass(frozen=True)
class Encoder:
    """Both encoders with their settings: the pure part of the stages, one shard at a time.

    Latents of a row have `sides` as their leading axis where it is not 1.
    """

    size_px: int
    batch: int
    vae: Vae
    text: TextEncoder
    mirrored: bool = False
    sides: int = 1

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, rows and columns of a latent."""
        return self.vae.latent_shape(self.size_px)

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema of the features."""
        shape = self.shape if self.sides == 1 else (self.sides, *self.shape)
        return features.schema(shape, self.text.dim, self.text.storage, self.mirrored)

    def shard(self, table: pa.Table, images: dict[str, bytes], progress: Progress) -> ShardOutput:
        """Features of the rows of `table` (id, prompt_id, caption), in their order."""
        ids, captions = table.column("id").to_pylist(), table.column("caption").to_pylist()
        squares, broken = _decode([(id, images[id]) for id in ids], self.size_px)
        moments = list(self._moments(list(squares.values()), progress))
        if self.mirrored:
            allowed = {id for id, caption in zip(ids, captions, strict=True) if may_mirror(caption)}
            moments += self._mirrored(squares, allowed, *moments)
        reasons = {id: (bad.reason, bad.detail) for id, bad in broken.items()}
        return self._output(table, list(squares), moments, reasons)

    def pairs(self, table: pa.Table, images: Sequence[dict[str, bytes]], progress: Progress) -> ShardOutput:
        """Features of pairs (id, prompt_id, caption): `images` has the files of one side after the other, by id."""
        ids = table.column("id").to_pylist()
        decoded = [_decode([(id, side[id]) for id in ids], self.size_px) for side in images]
        reasons = {id: (bad.reason, bad.detail) for _, broken in decoded for id, bad in broken.items()}
        whole = [id for id in ids if id not in reasons]
        first, *others = (squares for squares, _ in decoded)
        sides = [self._moments([first[id] for id in whole], progress)]
        sides += [self._moments([squares[id] for id in whole], SILENT) for squares in others]
        return self._output(table, whole, [torch.stack(side, dim=1) for side in zip(*sides, strict=True)], reasons)

    def _output(
        self, table: pa.Table, encoded: list[str], moments: list[Tensor], reasons: dict[str, tuple[str, str]]
    ) -> ShardOutput:
        """Rows of `table`: those `encoded`, whose moments are finite, and the others with their reasons."""
        ids, captions = table.column("id").to_pylist(), table.column("caption").to_pylist()
        places = {id: place for place, id in enumerate(encoded)}
        vectors = dict(zip(dict.fromkeys(captions), self.text.encode(list(dict.fromkeys(captions))), strict=True))
        finite = torch.stack([_finite(moment) for moment in moments]).all(0)
        for id, caption in zip(ids, captions, strict=True):
            if id in places and not bool(finite[places[id]]):
                reasons[id] = ("feature_nonfinite", "a latent moment is not a finite float16")
            elif id in places and not bool(torch.isfinite(vectors[caption].half()).all()):
                reasons[id] = ("feature_nonfinite", "a text value is not finite")
        good = [row for row, id in enumerate(ids) if id not in reasons]
        rows = table.select(["id", "prompt_id", "caption"]).to_pylist()
        rejects = [Reject(rows[i]["id"], *reasons[ids[i]], row=rows[i]) for i in range(len(rows)) if ids[i] in reasons]
        chosen = torch.tensor([places[ids[row]] for row in good], dtype=torch.long)
        made = self._table(table.take(pa.array(good, pa.int64())), [moment[chosen] for moment in moments], vectors)
        return ShardOutput(table=made, schema=self.schema, rejects=rejects, rows_in=table.num_rows)

    def _moments(self, squares: list[Tensor], progress: Progress) -> tuple[Tensor, Tensor]:
        # float16 at once: a shard of 512 px features is 260 MB this way and would be a gigabyte with its copies.
        means, stds = [torch.zeros(0, *self.shape, dtype=torch.float16)], []
        for group in _groups(squares, self.batch):
            mean, std = self.vae.encode(torch.stack(group))
            if tuple(mean.shape[1:]) != self.shape or mean.shape != std.shape:
                raise SchemaMismatch(f"FeatureShape: the VAE gave {tuple(mean.shape[1:])}, expected {self.shape}")
            means.append(mean.half())
            stds.append(std.half())
            progress.advance(len(group))
        return torch.cat(means), torch.cat([means[0], *stds])

    def _mirrored(
        self, squares: dict[str, Tensor], allowed: set[str], mean: Tensor, std: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Moments of the mirrored images; of those that must not be, the plain ones."""
        mirrored = mean.clone(), std.clone()
        places = [place for place, id in enumerate(squares) if id in allowed]
        flipped = [square.flip(1) for id, square in squares.items() if id in allowed]
        for moment, made in zip(mirrored, self._moments(flipped, SILENT), strict=True):
            moment[places] = made
        return mirrored

    def _table(self, rows: pa.Table, moments: list[Tensor], vectors: dict[str, Tensor]) -> pa.Table:
        texts = [vectors[caption] for caption in rows.column("caption").to_pylist()]
        wrong = [tuple(one.shape) for one in texts if one.ndim != 2 or one.shape[1] != self.text.dim]
        if wrong:
            raise SchemaMismatch(f"FeatureShape: the text encoder gave {wrong[0]}, expected (tokens, {self.text.dim})")
        columns = [rows.column(name).combine_chunks() for name in ("id", "prompt_id", "caption")]
        columns += [*map(latent_array, moments), text_array(texts, self.text.storage)]
        columns.append(pa.array([len(one) for one in texts], pa.int32()))
        return pa.Table.from_arrays(columns, schema=self.schema)


def _decode(images: list[tuple[str, bytes]], size_px: int) -> tuple[dict[str, Tensor], dict[str, BadImage]]:
    squares, broken = {}, {}
    for id, data in images:
        square = read_square(data, size_px)
        if isinstance(square, BadImage):
            broken[id] = square
        else:
            squares[id] = square
    return squares, broken


def _groups(squares: list[Tensor], size: int) -> Iterator[list[Tensor]]:
    return (squares[start : start + size] for start in range(0, len(squares), size))


def _finite(moments: Float[Tensor, "n ... c h w"]) -> Bool[Tensor, " n"]:
    return torch.isfinite(moments).flatten(1).all(1)
