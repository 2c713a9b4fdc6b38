"""How like a reference the pictures of models are in the space of a feature network, and how unlike one another.

Shards of SCORES with vectors are read one after another. Memory: two shards of vectors, and d x d numbers a model.
"""

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

import numpy as np

from lightgen.decisions.vendi import vendi_score
from lightgen.errors import SchemaMismatch
from lightgen.evaluation import statistics
from lightgen.evaluation.distances import SCALE, Blocks, Vectors, frechet, mean_kernel, moments_of, unit
from lightgen.storage.version import Version
from schemas.report import Halves, Interval, Likeness, Spread
from schemas.scores import VECTOR


@dataclass(frozen=True)
class Block:
    """The vectors of one shard, with the prompt of each, prompts together."""

    prompts: list[str]
    vectors: Vectors


def likeness(network: str, reference: str, models: Mapping[str, Version], other: Version | None = None) -> Likeness:
    """Figures of every model; `reference` names the model they are compared with, or stands for `other`.

    Raises SchemaMismatch where the vectors of two sets have other lengths, or a version has none.
    """
    ground = _Known(other or models[reference])
    return Likeness(
        network=network,
        features=len(ground.moments.mean),
        reference=reference,
        reference_images=ground.moments.count,
        halves=_halves(ground.version),
        models=[_spread(name, version, ground) for name, version in models.items()],
    )


class _Known:
    """A set of vectors with what is asked of it more than once."""

    def __init__(self, version: Version, half: int | None = None) -> None:
        self.version, self.cloud = version, _cloud(version, half)
        self.moments = moments_of(self.cloud)

    @cached_property
    def within(self) -> float:
        """Mean kernel of the set with itself."""
        return mean_kernel(self.cloud, self.cloud)

    def apart(self, other: "_Known") -> tuple[float | None, float | None]:
        """Fréchet distance and MMD to another set; None where one of both holds fewer than two vectors."""
        if min(self.moments.count, other.moments.count) < 2:
            return None, None
        if self.moments.mean.shape != other.moments.mean.shape:
            raise SchemaMismatch(f"{self.version.ref}: vectors of another length than those of {other.version.ref}")
        between = mean_kernel(self.cloud, other.cloud)
        return frechet(self.moments, other.moments), SCALE * (self.within + other.within - 2 * between)


def _spread(name: str, version: Version, ground: _Known) -> Spread:
    own = ground if version is ground.version else _Known(version)
    far, mmd = (None, None) if own is ground else own.apart(ground)
    distance, vendi = diversity(version)
    return Spread(name=name, images=own.moments.count, frechet=far, mmd=mmd, distance=distance, vendi=vendi)


def _halves(version: Version) -> Halves:
    """Two halves of one set, with no prompt in both: what is left between sets that do not differ."""
    first, second = (_Known(version, half) for half in (0, 1))
    far, mmd = first.apart(second)
    return Halves(images=min(first.moments.count, second.moments.count), frechet=far, mmd=mmd)


def diversity(version: Version) -> tuple[Interval | None, Interval | None]:
    """Over the samples of a prompt, means of all prompts: cosine distance of two of them, and their Vendi score.

    None where fewer than two prompts have two samples. Those of one prompt stand in one shard, as `generate` leaves
    them.
    """
    distances, scores = [], []
    for block in _blocks(version):
        rows = unit(block.vectors)
        start = 0
        for _, same in groupby(block.prompts):
            count = len(list(same))
            own, start = rows[start : start + count], start + count
            if count > 1:
                distances.append(float(1 - (own @ own.T)[np.triu_indices(count, 1)].mean()))
                scores.append(vendi_score(own))
    if len(distances) < 2:
        return None, None
    return _interval(distances), _interval(scores)


def _interval(values: list[float]) -> Interval:
    found = statistics.value_interval(np.array(values))
    return Interval(mean=found.value, low=found.low, high=found.high)


def _cloud(version: Version, half: int | None = None) -> Blocks:
    """The vectors of a version, or of those prompts of it that fall into one half."""

    def blocks() -> Iterator[Vectors]:
        for block in _blocks(version):
            inside = [half is None or zlib.crc32(prompt.encode()) % 2 == half for prompt in block.prompts]
            if any(inside):
                yield block.vectors[inside]

    return blocks


def _blocks(version: Version) -> Iterator[Block]:
    """Shard by shard; images without a vector are left out."""
    for shard in range(version.n_shards):
        table = version.table(shard)
        if VECTOR.name not in table.column_names:
            raise SchemaMismatch(f"{version.ref}: no column {VECTOR.name}; score the images with a feature network")
        pairs = zip(table["prompt_id"].to_pylist(), table[VECTOR.name].to_pylist(), strict=True)
        rows = sorted(((prompt, data) for prompt, data in pairs if data is not None), key=lambda row: row[0])
        if rows:
            yield Block([prompt for prompt, _ in rows], _vectors([data for _, data in rows], version))


def _vectors(rows: list[bytes], version: Version) -> Vectors:
    if len({len(row) for row in rows}) != 1:
        raise SchemaMismatch(f"{version.ref}: vectors of several lengths")
    return np.frombuffer(b"".join(rows), "<f4").reshape(len(rows), -1)
