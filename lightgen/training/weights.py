"""A trained student as rows and files of a CHECKPOINT version, and position tables of another size."""

import pyarrow as pa
import torch
from safetensors.torch import save
from torch import nn

from lightgen.model.positions import PositionTable, interpolate
from lightgen.model.student import Student
from lightgen.storage.weights import tensor_row
from lightgen.training.state import TrainState
from schemas.tensors import SCHEMA


def checkpoint_rows(state: TrainState) -> pa.Table:
    """The rows of a CHECKPOINT version: one a tensor of the weights (`model.`) and of their EMA (`ema.`)."""
    tensors = [
        (f"{group}.{name}", value)
        for group, student in (("model", state.student), ("ema", state.ema))
        for name, value in sorted(student.state_dict().items())
    ]
    return pa.Table.from_pylist([tensor_row(name, value) for name, value in tensors], schema=SCHEMA)


def checkpoint_files(state: TrainState) -> dict[str, bytes]:
    """Weights, EMA and log as the files of a CHECKPOINT version."""
    return {
        "model.safetensors": _to_bytes(state.student),
        "ema.safetensors": _to_bytes(state.ema),
        "log.jsonl": "".join(row + "\n" for row in state.log).encode(),
    }


def resize_positions(student: Student, grid: int) -> Student:
    """A student with position tables interpolated to `grid` x `grid`, to train it at another resolution."""
    resized = Student(student.config.model_copy(update={"grid": grid}))
    tensors = student.state_dict()
    for name, module in student.named_modules():
        if isinstance(module, PositionTable):
            tensors[f"{name}.table"] = interpolate(module.table.detach(), module.grid, grid, grid)
    resized.load_state_dict(tensors)
    return resized


def _to_bytes(student: nn.Module) -> bytes:
    return save(
        {name: value.detach().contiguous().cpu().to(torch.float32) for name, value in student.state_dict().items()}
    )
