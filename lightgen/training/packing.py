"""A batch as one row of bytes: processes hand over one tensor, however many parts a batch has."""

from dataclasses import dataclass, fields
from functools import cached_property
from math import prod

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from lightgen.training.data import Batch

ALIGNED = 64  # bytes; every part begins at a multiple


@dataclass(frozen=True)
class Part:
    """One tensor of a batch: `start` in bytes, `shape` with the rows."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int

    @property
    def size(self) -> int:
        """Bytes."""
        return prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class Packing:
    """Where the parts of batches of one shape lie; a part that such batches lack is left out."""

    parts: tuple[Part, ...]

    @staticmethod
    def like(sample: Batch, rows: int) -> "Packing":
        """The packing of batches of `rows` rows, each as a row of `sample`."""
        parts: list[Part] = []
        start = 0
        for name, value in _tensors(sample).items():
            part = Part(name, value.dtype, (rows, *value.shape[1:]), start)
            parts.append(part)
            start += -(-part.size // ALIGNED) * ALIGNED
        return Packing(tuple(parts))

    @cached_property
    def size(self) -> int:
        """Bytes of a batch, a multiple of `ALIGNED`."""
        last = self.parts[-1]
        return last.start + -(-last.size // ALIGNED) * ALIGNED

    def views(self, packed: UInt8[Tensor, " size"]) -> Batch:
        """A batch that lies in `packed`: nothing is copied, whoever writes one writes the other."""
        tensors = {
            part.name: packed[part.start : part.start + part.size].view(part.dtype).view(part.shape)
            for part in self.parts
        }
        return Batch(**{field.name: tensors.get(field.name) for field in fields(Batch)})  # pyright: ignore[reportArgumentType]

    def zeros(self) -> Batch:
        """A batch of zeros in one piece of memory."""
        # numpy's zeros are pages that are made when written, large ones where the system has them: 5x torch's speed.
        return self.views(torch.from_numpy(np.zeros(self.size, np.uint8)))


def copy_into(batch: Batch, into: Batch) -> None:
    """Write `batch` over another of its shape."""
    target = _tensors(into)
    source = _tensors(batch)
    assert source.keys() == target.keys(), f"batches differ: {sorted(source)} and {sorted(target)}"
    for name, value in source.items():
        assert value.shape == target[name].shape, f"{name}: {tuple(value.shape)} into {tuple(target[name].shape)}"
        target[name].copy_(value)


def _tensors(batch: Batch) -> dict[str, Tensor]:
    named = {field.name: getattr(batch, field.name) for field in fields(batch)}
    return {name: value for name, value in named.items() if value is not None}
