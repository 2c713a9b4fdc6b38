"""The student as the content of a CHECKPOINT version: rows, files and settings."""

import pyarrow as pa
import torch
from safetensors.torch import save
from torch import nn

from lightgen.model.positions import PositionTable, interpolate
from lightgen.model.student import Student
from lightgen.storage.weights import tensor_row
from lightgen.training.state import Run
from schemas.tensors import SCHEMA


def tensor_rows(run: Run) -> pa.Table:
    """One row a tensor of the weights (`model.`) and of their average (`ema.`): the checkpoint's content."""
    tensors = [
        (f"{group}.{name}", value)
        for group, student in (("model", run.student), ("ema", run.average))
        for name, value in sorted(student.state_dict().items())
    ]
    return pa.Table.from_pylist([tensor_row(name, value) for name, value in tensors], schema=SCHEMA)


def weight_files(run: Run) -> dict[str, bytes]:
    """Weights, average and log as files."""
    return {
        "model.safetensors": _to_bytes(run.student),
        "ema.safetensors": _to_bytes(run.average),
        "log.jsonl": "".join(row + "\n" for row in run.rows).encode(),
    }


def resize_positions(student: Student, grid: int) -> Student:
    """A student whose position tables are `grid` x `grid`, interpolated: finer places can then be learned."""
    resized = Student(student.config.model_copy(update={"grid": grid}))
    state = student.state_dict()
    for name, module in student.named_modules():
        if isinstance(module, PositionTable):
            state[f"{name}.table"] = interpolate(module.table.detach(), module.grid, grid, grid)
    resized.load_state_dict(state)
    return resized


def _to_bytes(student: nn.Module) -> bytes:
    return save(
        {name: value.detach().contiguous().cpu().to(torch.float32) for name, value in student.state_dict().items()}
    )
