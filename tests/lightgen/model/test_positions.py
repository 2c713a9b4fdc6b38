"""Position tables: identity at their own size, right for rows != columns, the published quirk on demand."""

import numpy as np
import torch

from lightgen.model.positions import PositionTable, interpolate


def _cubic(distance: float) -> float:
    """Keys' kernel with a = -0.75."""
    d, a = abs(distance), -0.75
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a if d < 2 else 0.0


def _matrix(source: int, target: int) -> np.ndarray:
    """Weights of a 1-D bicubic resize, edges repeated."""
    weights = np.zeros((target, source))
    for i in range(target):
        centre = (i + 0.5) * source / target - 0.5
        for j in range(int(np.floor(centre)) - 1, int(np.floor(centre)) + 3):
            weights[i, min(max(j, 0), source - 1)] += _cubic(centre - j)
    return weights


def test_own_size_is_the_table_itself() -> None:
    for quirky in (False, True):
        table = PositionTable(4, 3, quirky)
        torch.nn.init.normal_(table.table)
        assert table(4, 4) is table.table


def test_interpolation_equals_two_matrix_products() -> None:
    table = torch.randn(1, 16, 3, dtype=torch.float64)
    found = interpolate(table, 4, 6, 9)
    expected = np.einsum("ri,cj,ijd->rcd", _matrix(4, 6), _matrix(4, 9), table[0].reshape(4, 4, 3).numpy())
    np.testing.assert_allclose(found[0].reshape(6, 9, 3).numpy(), expected, atol=1e-9)


def test_the_quirk_transposes_other_than_square_grids() -> None:
    rows = torch.arange(4.0).repeat_interleave(4).reshape(1, 16, 1)  # the value is the row
    right = interpolate(rows, 4, 2, 8).reshape(2, 8)
    assert torch.allclose(right.std(dim=1), torch.zeros(2), atol=1e-5)
    quirky = interpolate(rows, 4, 2, 8, quirky=True)
    assert quirky.shape == (1, 16, 1)
    assert quirky.reshape(8, 2).std(dim=1).amax() < 1e-4  # laid out as 8 x 2: transposed to the tokens
