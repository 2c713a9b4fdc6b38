"""Learned position tables on a square grid, interpolated for other sizes."""

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
    image = table.unflatten(1, (grid, grid)).permute(0, 3, 1, 2)
    if not quirky:
        resized = F.interpolate(image, size=(rows, columns), mode="bicubic", align_corners=False)
    else:
        factors = ((columns + QUIRK_OFFSET) / grid, (rows + QUIRK_OFFSET) / grid)
        resized = F.interpolate(image, scale_factor=factors, mode="bicubic", align_corners=False)
    return resized.permute(0, 2, 3, 1).flatten(1, 2)
