"""The memory layout of a batch: all its tensors in one buffer, so that processes hand over one tensor a batch."""

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from lightgen.training.data import Batch

ALIGNMENT = 64  # bytes; every tensor starts at a multiple


@dataclass(frozen=True)
class FieldLayout:
    """One tensor of a batch: its `offset` in bytes, and its `shape` with the rows of the batch as first axis."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    offset: int

    @property
    def nbytes(self) -> int:
        """Bytes, without padding."""
        return prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class BatchLayout:
    """Where each tensor lies in the buffer of a batch of one shape; a field that is None in the batch is left out."""

    fields: tuple[FieldLayout, ...]

    @staticmethod
    def like(sample: Batch, rows: int) -> "BatchLayout":
        """The layout of a batch of `rows` rows, each with the shapes and types of `sample`."""
        fields: list[FieldLayout] = []
        offset = 0
        for name, tensor in _tensors(sample).items():
            field = FieldLayout(name, tensor.dtype, (rows, *tensor.shape[1:]), offset)
            fields.append(field)
            offset += _aligned(field.nbytes)
        return BatchLayout(tuple(fields))

    @cached_property
    def nbytes(self) -> int:
        """Bytes of the buffer, a multiple of `ALIGNMENT`."""
        last = self.fields[-1]
        return last.offset + _aligned(last.nbytes)

    def view(self, buffer: UInt8[Tensor, " nbytes"]) -> Batch:
        """A batch whose tensors are views of `buffer`: nothing is copied."""
        tensors = {
            field.name: buffer[field.offset : field.offset + field.nbytes].view(field.dtype).view(field.shape)
            for field in self.fields
        }
        return Batch(**{field.name: tensors.get(field.name) for field in dataclasses.fields(Batch)})  # pyright: ignore[reportArgumentType]

    def zeros(self) -> Batch:
        """A batch of zeros in a buffer of its own."""
        # numpy's zeros are pages that are made when written, large ones where the system has them: 5x torch's speed.
        return self.view(torch.from_numpy(np.zeros(self.nbytes, np.uint8)))


def copy_batch(source: Batch, target: Batch) -> None:
    """Copy `source` into `target`, which must have its shapes."""
    copied, overwritten = _tensors(source), _tensors(target)
    assert copied.keys() == overwritten.keys(), f"batches differ: {sorted(copied)} and {sorted(overwritten)}"
    for name, tensor in copied.items():
        into = overwritten[name]
        assert tensor.shape == into.shape, f"{name}: {tuple(tensor.shape)} into {tuple(into.shape)}"
        into.copy_(tensor)


def _aligned(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def _tensors(batch: Batch) -> dict[str, Tensor]:
    named = {field.name: getattr(batch, field.name) for field in dataclasses.fields(batch)}
    return {name: value for name, value in named.items() if value is not None}
