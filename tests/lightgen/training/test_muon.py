"""Muon: updates are orthogonal as the singular value decomposition says, and matrices do not disturb each other."""

import pytest
import torch

from lightgen.training.muon import ADAMW_RMS, ITERATIONS, QUINTIC, Muon, newton_schulz


def _polar(matrix: torch.Tensor) -> torch.Tensor:
    """U V^T by the decomposition itself, in float64."""
    u, _, vt = torch.linalg.svd(matrix.double(), full_matrices=False)
    return u @ vt


@pytest.mark.parametrize("shape", [(16, 16), (16, 64), (64, 16), (24, 40)])
def test_newton_schulz_comes_near_the_polar_factor(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrices = torch.randn(3, *shape)
    for matrix, found in zip(matrices, newton_schulz(matrices), strict=True):
        values = torch.linalg.svdvals(found.float())
        assert float(values.min()) > 0.5
        assert float(values.max()) < 1.3
        cosine = (found.double() * _polar(matrix)).sum() / (found.double().norm() * _polar(matrix).norm())
        assert float(cosine) > 0.97


@pytest.mark.parametrize("shape", [(128, 128), (128, 256), (128, 512), (512, 128)])
@pytest.mark.parametrize("power", [0.0, 1.0, 2.0, 8.0], ids=lambda power: f"values-fall-as-power-{power:g}")
def test_newton_schulz_is_four_of_jordans_iterations_however_small_the_values(
    shape: tuple[int, int], power: float
) -> None:
    """Against the iteration in float64: nothing that is nearly 0 may be blown up by rounding."""
    torch.manual_seed(0)
    values = torch.arange(1, 129, dtype=torch.float64) ** -power
    u, v = (torch.linalg.qr(torch.randn(2, side, 128, dtype=torch.float64))[0] for side in shape)
    matrices = ((u * values) @ v.mT).bfloat16()
    found, expected = newton_schulz(matrices).double(), _jordan(matrices.double())
    assert found.shape == expected.shape
    assert float(torch.linalg.svdvals(found).max()) < 1.25
    assert float((found - expected).norm() / expected.norm()) < 0.05


def _jordan(matrices: torch.Tensor) -> torch.Tensor:
    a, b, c = QUINTIC
    x = matrices / torch.linalg.matrix_norm(matrices @ matrices.mT, keepdim=True).sqrt()
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


def test_null_control_a_normalised_gradient_is_not_orthogonal() -> None:
    torch.manual_seed(0)
    matrix = torch.randn(16, 64) @ torch.diag(torch.logspace(0, -3, 64))
    values = torch.linalg.svdvals(matrix / matrix.norm())
    assert float(values.min()) < 0.1 * float(values.max())


def test_first_step_moves_every_matrix_by_its_own_polar_factor_of_adamws_size() -> None:
    torch.manual_seed(1)
    shapes = [(8, 32), (32, 8), (8, 32), (12, 12)]
    parameters = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]
    before = [parameter.detach().clone() for parameter in parameters]
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    Muon(parameters, lr=0.1).step()
    for parameter, old in zip(parameters, before, strict=True):
        assert parameter.grad is not None
        moved = (old - parameter.detach()).double()
        polar = _polar(parameter.grad)
        assert float((moved * polar).sum() / (moved.norm() * polar.norm())) > 0.97
        assert float(moved.square().mean().sqrt()) == pytest.approx(0.1 * ADAMW_RMS, rel=0.25)


def test_matrices_stacked_in_one_parameter_are_made_orthogonal_each_by_itself() -> None:
    torch.manual_seed(2)
    whole, stacked = (torch.nn.Parameter(torch.zeros(36, 12)) for _ in range(2))
    # The first part is larger by far: as one matrix, its directions would leave nothing to the others.
    gradient = torch.randn(36, 12) * torch.tensor([30.0, 1.0, 1.0]).repeat_interleave(12).unsqueeze(1)
    whole.grad = stacked.grad = gradient
    Muon([{"params": [whole], "parts": 1}, {"params": [stacked], "parts": 3}], lr=0.1).step()
    sizes = [part.square().mean().sqrt().item() for part in stacked.detach().chunk(3)]
    for moved, part in zip(stacked.detach().chunk(3), gradient.chunk(3), strict=True):
        assert float(-(moved * _polar(part)).sum() / (moved.norm() * _polar(part).norm())) > 0.97
    assert sizes == pytest.approx([0.1 * ADAMW_RMS] * 3, rel=0.25)
    lone = [part.square().mean().sqrt().item() for part in whole.detach().chunk(3)]
    assert lone[1] < 0.25 * lone[0], "null control: the parts of one matrix share its directions"


def test_a_tiny_gradient_gives_a_finite_step_and_none_at_all_no_step() -> None:
    for size, moves in ((1e-5, True), (0.0, False)):
        parameter = torch.nn.Parameter(torch.zeros(8, 8))
        parameter.grad = size * torch.randn(8, 8, generator=torch.Generator().manual_seed(0))
        Muon([parameter], lr=0.1).step()
        assert bool(parameter.detach().isfinite().all())
        assert bool(parameter.detach().any()) is moves


def test_momentum_is_nesterovs() -> None:
    parameter = torch.nn.Parameter(torch.zeros(4, 4))
    optimizer = Muon([parameter], lr=0.0, momentum=0.9)
    gradients = [torch.eye(4), 2 * torch.eye(4)]
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()
    expected = 0.9 * 0.1 * gradients[0] + 0.1 * gradients[1]
    torch.testing.assert_close(optimizer.state[parameter]["momentum"], expected)


def test_weight_decay_shrinks_and_a_parameter_without_gradient_stays() -> None:
    still, moving = (torch.nn.Parameter(torch.ones(4, 4)) for _ in range(2))
    moving.grad = torch.zeros(4, 4)
    Muon([still, moving], lr=0.5, weight_decay=0.1).step()
    assert torch.equal(still.detach(), torch.ones(4, 4))
    torch.testing.assert_close(moving.detach(), torch.full((4, 4), 1 - 0.05))


def test_vectors_are_refused() -> None:
    with pytest.raises(ValueError, match="matrices only"):
        Muon([torch.nn.Parameter(torch.zeros(4))], lr=0.1)
