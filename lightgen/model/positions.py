"""Learned position tables on a square grid, interpolated for other sizes."""

from functools import lru_cache

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

QUIRK_OFFSET = 0.1  # DINOv2's guard against rounding, which shifts the sampling grid a little


class PositionTable(nn.Module):
    """One learned vector a cell of a `grid` x `grid` table; `quirky`: as in the published code (model_facts 1.7)."""

    def __init__(self, grid: int, width: int, quirky: bool = False) -> None:
        super().__init__()
        self.grid, self.quirky = grid, quirky
        self.table = nn.Parameter(torch.empty(1, grid * grid, width))

    def forward(self, rows: int, columns: int) -> Float[Tensor, "1 n d"]:
        """Positions of a rows x columns grid, row-major; the table itself at its own size."""
        if (rows, columns) == (self.grid, self.grid):
            return self.table
        return interpolate(self.table, self.grid, rows, columns, self.quirky)


def interpolate(
    table: Float[Tensor, "1 g d"], grid: int, rows: int, columns: int, quirky: bool = False
) -> Float[Tensor, "1 n d"]:
    """Bicubic resize of a square table to rows x columns, row-major."""
    if quirky:
        rows, columns = columns, rows
    down, across = (_weights(grid, size, quirky, table.dtype, table.device) for size in (rows, columns))
    # Two products: bicubic kernels add up their gradients in no fixed order on a GPU. Not in bfloat16, as they are not.
    with torch.autocast(table.device.type, enabled=False):
        tall = (down @ table.reshape(grid, -1)).unflatten(1, (grid, -1))
        return (across @ tall).flatten(0, 1).unsqueeze(0)


@lru_cache(maxsize=64)
def _weights(
    grid: int, size: int, quirky: bool, dtype: torch.dtype, device: torch.device
) -> Float[Tensor, "size grid"]:
    """What each of `size` places takes of each cell of a row of `grid`, resized bicubically."""
    exact = torch.promote_types(dtype, torch.float32)
    with torch.inference_mode(False):  # they outlast whoever asks first, and training cannot keep inference's tensors
        cells = torch.eye(grid, dtype=exact).view(1, grid, grid, 1)
        if quirky:
            factors = ((size + QUIRK_OFFSET) / grid, 1.0)
            resized = F.interpolate(cells, scale_factor=factors, mode="bicubic", align_corners=False)
        else:
            resized = F.interpolate(cells, size=(size, 1), mode="bicubic", align_corners=False)
        return resized[0, :, :, 0].T.contiguous().to(device, dtype)
