"""The token diffusion against float64 numpy written from the papers' formulas."""

import math

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lightgen.model.diffusion import (
    LEAST_NOISE,
    DiffusionHead,
    add_noise,
    as_noise,
    cosine_schedule,
    prediction_error,
    sample,
    time_embedding,
    variance_bound,
)


def _bar(t: float) -> float:
    return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2


def _reference() -> tuple[np.ndarray, np.ndarray]:
    betas = np.array([min(1 - _bar((i + 1) / 1000) / _bar(i / 1000), 0.999) for i in range(1000)])
    bars = np.ones(1000)
    for i in range(1000):
        bars[i] = (bars[i - 1] if i else 1.0) * (1 - betas[i])
    return betas, bars


def test_schedule_is_the_cosine_of_the_paper() -> None:
    betas, bars = _reference()
    schedule = cosine_schedule()
    np.testing.assert_allclose(schedule.betas, betas, rtol=1e-9)
    np.testing.assert_allclose(schedule.alpha_bars, bars, rtol=1e-9)
    assert bars[499] == pytest.approx(_bar(0.5) / _bar(0), rel=1e-6)


def test_respacing_keeps_the_noise_levels() -> None:
    _, bars = _reference()
    schedule = cosine_schedule(100)
    assert len(schedule.times) == 100
    assert (schedule.times[0], schedule.times[-1]) == (0, 999)
    np.testing.assert_allclose(schedule.alpha_bars, bars[schedule.times], rtol=1e-9)
    np.testing.assert_allclose(np.cumprod(1 - schedule.betas), bars[schedule.times], rtol=1e-6)


def test_noise_is_added_as_published() -> None:
    _, bars = _reference()
    torch.manual_seed(0)
    x0, noise, t = torch.randn(5, 3), torch.randn(5, 3), torch.tensor([0, 10, 500, 900, 999])
    level = bars[t.numpy()][:, None]
    expected = np.sqrt(level) * x0.double().numpy() + np.sqrt(1 - level) * noise.double().numpy()
    np.testing.assert_allclose(add_noise(x0, t, noise).numpy(), expected, atol=5e-6)


def test_variance_lies_between_the_bounds_and_the_kl_is_exact() -> None:
    betas, bars = _reference()
    t, dim = np.array([1, 40, 500, 998]), 3
    before = bars[t - 1]
    posterior = betas[t] * (1 - before) / (1 - bars[t])
    generator = torch.Generator().manual_seed(0)
    x0, xt = (torch.randn(4, dim, generator=generator).double() for _ in range(2))
    output = torch.randn(4, 2 * dim, generator=generator).double()
    eps, fraction = output[:, :dim].numpy(), (output[:, dim:].numpy() + 1) / 2
    a, b, p = bars[t][:, None], betas[t][:, None], posterior[:, None]
    x0_hat = (xt.numpy() - np.sqrt(1 - a) * eps) / np.sqrt(a)

    def mean(x: np.ndarray) -> np.ndarray:
        prior = before[:, None]
        return (b * np.sqrt(prior) * x + (1 - prior) * np.sqrt(1 - b) * xt.numpy()) / (1 - a)

    log_variance = fraction * np.log(b) + (1 - fraction) * np.log(p)
    inside = (fraction >= 0) & (fraction <= 1)
    assert ((np.exp(log_variance) <= b * 1.0001) & (np.exp(log_variance) >= p * 0.9999))[inside].all()
    kl = -1 + log_variance - np.log(p) + np.exp(np.log(p) - log_variance)
    kl = 0.5 * (kl + (mean(x0.numpy()) - mean(x0_hat)) ** 2 * np.exp(-log_variance))
    found = variance_bound(output.float(), x0.float(), xt.float(), torch.from_numpy(t))
    np.testing.assert_allclose(found.numpy(), kl.mean(1) / math.log(2), rtol=2e-3)


def test_the_bound_teaches_the_variance_and_not_the_mean() -> None:
    output = torch.randn(6, 8, requires_grad=True)
    variance_bound(output, torch.randn(6, 4), torch.randn(6, 4), torch.arange(6) * 100).sum().backward()
    assert output.grad is not None
    assert output.grad[:, :4].abs().sum() == 0
    assert output.grad[:, 4:].abs().sum() > 0


def _oracle(mean: float, spread: float):
    """The exact noise prediction for data that is Normal(mean, spread^2)."""
    bars = cosine_schedule().alpha_bars

    def predict(x: torch.Tensor, t: int) -> torch.Tensor:
        a = float(bars[t])
        eps = math.sqrt(1 - a) * (x - math.sqrt(a) * mean) / (a * spread**2 + 1 - a)
        return torch.cat([eps, -torch.ones_like(eps)], dim=1)

    return predict


@pytest.mark.parametrize(("ddpm", "steps"), [(True, 250), (False, 50)])
def test_samplers_recover_a_known_distribution(ddpm: bool, steps: int) -> None:
    generator, schedule = torch.Generator().manual_seed(0), cosine_schedule(steps)
    start = torch.randn(4000, 2, generator=generator).double()
    noise = torch.randn(steps, 4000, 2, generator=generator).double() if ddpm else None
    drawn = sample(_oracle(0.7, 0.3), start, noise, schedule, temperature=1.0, clip_x0=None)
    assert float(drawn.mean()) == pytest.approx(0.7, abs=0.03)
    assert float(drawn.std()) == pytest.approx(0.3, abs=0.03)


def test_zero_temperature_narrows_and_clipping_bounds() -> None:
    generator, schedule = torch.Generator().manual_seed(0), cosine_schedule(50)
    start, noise = torch.randn(500, 2, generator=generator), torch.randn(50, 500, 2, generator=generator)
    cold = sample(_oracle(0.7, 0.3), start, noise, schedule, temperature=0.0, clip_x0=None)
    assert float(cold.std()) < 0.2
    assert float(sample(_oracle(0.7, 0.3), start, noise, schedule, 1.0, clip_x0=0.5).abs().max()) <= 0.5 + 1e-5


def test_a_fresh_head_predicts_zero_and_looks_times_up_exactly() -> None:
    torch.manual_seed(0)
    head = DiffusionHead(4, 16, 2, 8)
    head.init()
    x, t, condition = torch.randn(1200, 4), torch.randint(0, 1000, (1200,)), torch.randn(1200, 16)
    assert head(x, t, condition).abs().max() == 0
    torch.nn.init.normal_(head.last_modulation.weight)
    torch.nn.init.normal_(head.token_out.weight)
    many = head(x, t, condition)  # more rows than steps: the table
    few = torch.cat([head(x[i : i + 300], t[i : i + 300], condition[i : i + 300]) for i in range(0, 1200, 300)])
    assert torch.allclose(many, few, atol=1e-4)


def test_time_embedding_equals_a_loop() -> None:
    found = time_embedding(torch.tensor([0, 17, 999])).double().numpy()
    for row, t in enumerate((0, 17, 999)):
        for i in range(128):
            angle = t * math.exp(-math.log(10000) * i / 128)
            assert found[row, i] == pytest.approx(math.cos(angle), abs=2e-4)
            assert found[row, 128 + i] == pytest.approx(math.sin(angle), abs=2e-4)


def test_every_kind_of_prediction_says_the_same() -> None:
    torch.manual_seed(1)
    x0, noise, t = torch.randn(4, 3), torch.randn(4, 3), torch.tensor([100, 300, 700, 900])
    xt = add_noise(x0, t, noise)
    level = torch.from_numpy(cosine_schedule().alpha_bars)[t].float().unsqueeze(-1)
    exact = {"noise": noise, "velocity": level.sqrt() * noise - (1 - level).sqrt() * x0, "sample": x0}
    for kind, value in exact.items():
        output = torch.cat([value, torch.zeros(4, 3)], dim=1)
        assert prediction_error(kind, output, x0, noise, t).abs().max() < 1e-9
        assert torch.allclose(as_noise(kind, output, xt, t)[:, :3], noise, atol=1e-3)
    # An error of a sample weighs as much as the error of the velocity it amounts to, where the noise is not small.
    weight = ((1 - level) / (1 - level).clamp(min=LEAST_NOISE)).squeeze(-1)
    off = torch.cat([x0 + 0.1, torch.zeros(4, 3)], dim=1)
    velocity = level.sqrt() * as_noise("sample", off, xt, t)[:, :3] - (1 - level).sqrt() * off[:, :3]
    assert torch.allclose(
        prediction_error("sample", off, x0, noise, t),
        weight * prediction_error("velocity", torch.cat([velocity, velocity], dim=1), x0, noise, t),
        rtol=1e-2,
    )


class _Copies(TorchDispatchMode):
    """Counts copies from the CPU to a device of another type."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        moved = str(kwargs.get("device") or "cpu") != "cpu"
        self.count += func is torch.ops.aten._to_copy.default and args[0].device.type == "cpu" and moved
        return func(*args, **kwargs)


def test_the_schedule_is_copied_to_a_device_once() -> None:
    device = torch.device("meta", 1)  # of its own, so that nothing is there yet
    x0, noise, output = (torch.zeros(6, width, device=device) for width in (4, 4, 8))
    t = torch.zeros(6, dtype=torch.long, device=device)
    counts = []
    for _ in range(2):
        with _Copies() as copies:
            xt = add_noise(x0, t, noise)
            prediction_error("velocity", output, x0, noise, t)
            variance_bound(as_noise("velocity", output, xt, t), x0, xt, t)
        counts.append(copies.count)
    assert counts == [5, 0]
