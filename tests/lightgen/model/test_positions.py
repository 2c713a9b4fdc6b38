"""Position tables: identity at their own size, right for rows != columns, the published quirk on demand."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

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


@pytest.mark.parametrize(("rows", "columns"), [(32, 32), (24, 40), (8, 8), (64, 16)])
@pytest.mark.parametrize("quirky", [False, True])
def test_interpolation_equals_torchs_own(rows: int, columns: int, quirky: bool) -> None:
    table = torch.randn(1, 256, 5, generator=torch.Generator().manual_seed(0))
    image = table.unflatten(1, (16, 16)).permute(0, 3, 1, 2)
    if quirky:
        factors = ((columns + 0.1) / 16, (rows + 0.1) / 16)
        expected = F.interpolate(image, scale_factor=factors, mode="bicubic", align_corners=False)
    else:
        expected = F.interpolate(image, size=(rows, columns), mode="bicubic", align_corners=False)
    found = interpolate(table, 16, rows, columns, quirky)
    torch.testing.assert_close(found, expected.permute(0, 2, 3, 1).flatten(1, 2), rtol=0, atol=1e-6)


def test_gradients_come_from_matrix_products_alone_and_in_float32() -> None:
    """The bicubic kernel adds its gradients up in no fixed order on a GPU."""
    table = torch.randn(1, 16, 3, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        found = interpolate(table, 4, 6, 9)
    assert found.dtype == torch.float32
    names, nodes = set(), [found.grad_fn]
    while nodes:
        node = nodes.pop()
        if node is not None:
            names.add(type(node).__name__)
            nodes += [before for before, _ in node.next_functions]
    assert not any("Upsample" in name for name in names), names


def test_weights_first_asked_for_by_inference_serve_training() -> None:
    table = torch.randn(1, 25, 3, requires_grad=True)
    with torch.inference_mode():
        interpolate(table, 5, 7, 11)
    interpolate(table, 5, 7, 11).sum().backward()
    assert table.grad is not None
