"""The diffusion of one token: noise schedule, losses, respaced samplers, and the MLP head that predicts the noise."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from lightgen.model.blocks import NORM_EPS, init_linear, norm
from lightgen.model.config import Prediction

STEPS = 1000
MAX_BETA = 0.999
TIME_CHANNELS = 256
LEAST_NOISE = 0.5  # variance below which the weight of a sample prediction grows no more: fine detail is not the task
Predict = Callable[[Tensor, int], Tensor]


@dataclass(frozen=True)
class Schedule:
    """Constants of a (respaced) Gaussian diffusion in float64; `times[i]` is the training step of kept step i."""

    times: np.ndarray
    betas: np.ndarray
    alpha_bars: np.ndarray
    alpha_bars_before: np.ndarray
    log_beta: np.ndarray
    log_posterior: np.ndarray


@lru_cache(maxsize=16)
def cosine_schedule(kept: int = STEPS, below: int = STEPS) -> Schedule:
    """Cosine schedule of 1000 steps, respaced to `kept` evenly spread ones of the first `below` (model_facts 1.5)."""

    def bar(t: float) -> float:
        return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

    full = np.array([min(1 - bar((i + 1) / STEPS) / bar(i / STEPS), MAX_BETA) for i in range(STEPS)])
    times = np.unique(np.round(np.linspace(0, below - 1, kept)).astype(np.int64)) if kept > 1 else np.array([below - 1])
    bars = np.cumprod(1 - full)[times]
    before = np.append(1.0, bars[:-1])
    betas = 1 - bars / before
    posterior = betas * (1 - before) / (1 - bars)
    # The first posterior variance is zero; its neighbour stands in, as in the DDPM code.
    posterior = np.append(posterior[1], posterior[1:]) if kept > 1 else np.maximum(posterior, 1e-20)
    return Schedule(times, betas, bars, before, np.log(betas), np.log(posterior))


class Tables(NamedTuple):
    """What losses look up of the whole schedule, by step: float32 on one device.

    The mean of q(x_{t-1} | x_t, x_0) is `of_x0` x_0 + `of_xt` x_t.
    """

    alpha_bars: Float[Tensor, " steps"]
    log_beta: Float[Tensor, " steps"]
    log_posterior: Float[Tensor, " steps"]
    of_x0: Float[Tensor, " steps"]
    of_xt: Float[Tensor, " steps"]


def tables(device: torch.device) -> Tables:
    """The tables on `device`, copied there once: a copy in a step lets a GPU wait for the CPU."""
    return _tables(device)


@lru_cache(maxsize=16)
def _tables(device: torch.device) -> Tables:
    schedule = cosine_schedule()
    bars, before, betas = schedule.alpha_bars, schedule.alpha_bars_before, schedule.betas
    columns = (
        bars, schedule.log_beta, schedule.log_posterior, betas * np.sqrt(before) / (1 - bars),
        (1 - before) * np.sqrt(1 - betas) / (1 - bars),
    )  # fmt: skip
    with torch.inference_mode(False):
        return Tables(*(torch.from_numpy(values).to(device, torch.float32) for values in columns))


def add_noise(x0: Float[Tensor, "m d"], t: Int[Tensor, " m"], noise: Float[Tensor, "m d"]) -> Float[Tensor, "m d"]:
    """x_t = sqrt(abar) x_0 + sqrt(1 - abar) eps."""
    bars = tables(x0.device).alpha_bars[t].unsqueeze(-1)
    return bars.sqrt() * x0 + (1 - bars).sqrt() * noise


def prediction_error(
    prediction: Prediction,
    output: Float[Tensor, "m dd"],
    x0: Float[Tensor, "m d"],
    noise: Float[Tensor, "m d"],
    t: Int[Tensor, " m"],
) -> Float[Tensor, " m"]:
    """Mean squared error of each token's prediction, the first half of `output`.

    `noise`: of eps, as published. `velocity`: of sqrt(abar) eps - sqrt(1 - abar) x_0, which weighs coarse noise more.
    `sample`: of x_0, weighted like the velocity; the easiest for a small head, for clean tokens fill few dimensions.
    """
    predicted = output[:, : x0.shape[1]]
    if prediction == "noise":
        return (predicted - noise).square().mean(dim=1)
    bars = tables(x0.device).alpha_bars[t].unsqueeze(-1)
    if prediction == "sample":
        return ((predicted - x0).square() / (1 - bars).clamp(min=LEAST_NOISE)).mean(dim=1)
    return (predicted - bars.sqrt() * noise + (1 - bars).sqrt() * x0).square().mean(dim=1)


def as_noise(
    prediction: Prediction, output: Float[Tensor, "m dd"], xt: Float[Tensor, "m d"], t: Int[Tensor, " m"]
) -> Float[Tensor, "m dd"]:
    """The head's output with its first half turned into a prediction of the noise."""
    if prediction == "noise":
        return output
    bars = tables(xt.device).alpha_bars[t].unsqueeze(-1)
    predicted, variance = output.chunk(2, dim=1)
    if prediction == "sample":
        return torch.cat([(xt - bars.sqrt() * predicted) / (1 - bars).sqrt(), variance], dim=1)
    return torch.cat([(1 - bars).sqrt() * xt + bars.sqrt() * predicted, variance], dim=1)


def variance_bound(
    output: Float[Tensor, "m dd"], x0: Float[Tensor, "m d"], xt: Float[Tensor, "m d"], t: Int[Tensor, " m"]
) -> Float[Tensor, " m"]:
    """Variational bound in bits a number, `output` as noise; its gradient teaches the variance, not the mean."""
    noise, raw = output.detach()[:, : x0.shape[1]], output[:, x0.shape[1] :]
    mean, log_variance = _posterior(xt, noise, raw, t)
    true_mean = _posterior_mean(x0, xt, t)
    true_log = tables(x0.device).log_posterior[t].unsqueeze(-1)
    kl = 0.5 * (-1 + log_variance - true_log + (true_log - log_variance).exp())
    kl = kl + 0.5 * (true_mean - mean).square() * (-log_variance).exp()
    first = -_discretised_log_likelihood(x0, mean, 0.5 * log_variance)
    return torch.where(t == 0, first.mean(dim=1), kl.mean(dim=1)) / math.log(2)


def sample(
    predict: Predict,
    start: Float[Tensor, "m d"],
    noise: Float[Tensor, "s m d"] | None,
    schedule: Schedule,
    temperature: float,
    clip_x0: float | None,
) -> Float[Tensor, "m d"]:
    """Denoise `start`; with `noise` ancestral DDPM with learned variance, without it deterministic DDIM.

    `predict(x, t)` gives [m, 2d]; temperature multiplies the injected noise, not the start (model_facts 4.4).
    """
    x = start
    for i in reversed(range(len(schedule.times))):
        output = predict(x, int(schedule.times[i]))
        eps, raw = output.chunk(2, dim=1)
        bar, before = float(schedule.alpha_bars[i]), float(schedule.alpha_bars_before[i])
        x0 = (x - math.sqrt(1 - bar) * eps) / math.sqrt(bar)
        if clip_x0 is not None:
            x0 = x0.clamp(-clip_x0, clip_x0)
            eps = (x - math.sqrt(bar) * x0) / math.sqrt(1 - bar)
        if noise is None:
            x = math.sqrt(before) * x0 + math.sqrt(1 - before) * eps
            continue
        beta = float(schedule.betas[i])
        x = (beta * math.sqrt(before) * x0 + (1 - before) * math.sqrt(1 - beta) * x) / (1 - bar)
        if i > 0:
            fraction = (raw + 1) / 2
            log_variance = fraction * schedule.log_beta[i] + (1 - fraction) * schedule.log_posterior[i]
            x = x + temperature * (0.5 * log_variance).exp() * noise[i]
    return x


class ResidualBlock(nn.Module):
    """MLP block modulated by (shift, scale, gate) of the condition."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = norm(width)
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)
        self.modulation = nn.Linear(width, 3 * width)

    def forward(self, x: Float[Tensor, "m w"], condition: Float[Tensor, "m w"]) -> Float[Tensor, "m w"]:
        shift, scale, gate = self.modulation(condition).chunk(3, dim=-1)
        hidden = torch.addcmul(shift, self.norm(x), 1 + scale)
        return torch.addcmul(x, gate, self.second(F.silu(self.first(hidden))))


class DiffusionHead(nn.Module):
    """Predicts noise and variance of noisy tokens, given the trunk's vectors (model_facts 1.5)."""

    def __init__(self, token_dim: int, width: int, depth: int, condition_dim: int) -> None:
        super().__init__()
        self.time_in, self.time_out = nn.Linear(TIME_CHANNELS, width), nn.Linear(width, width)
        self.condition = nn.Linear(condition_dim, width)
        self.token_in = nn.Linear(token_dim, width)
        self.blocks = nn.ModuleList(ResidualBlock(width) for _ in range(depth))
        self.last_norm = nn.LayerNorm(width, eps=NORM_EPS, elementwise_affine=False)
        self.last_modulation = nn.Linear(width, 2 * width)
        self.token_out = nn.Linear(width, 2 * token_dim)

    def init(self) -> None:
        """Identity-like start: modulations and output zero."""
        self.apply(init_linear)
        for layer in (self.time_in, self.time_out):
            nn.init.normal_(layer.weight, std=0.02)
        zero = [self.last_modulation, self.token_out]
        zero += [block.modulation for block in self.blocks if isinstance(block, ResidualBlock)]
        for layer in zero:
            nn.init.zeros_(layer.weight)

    def forward(
        self, x: Float[Tensor, "m d"], t: Int[Tensor, " m"], condition: Float[Tensor, "m w"]
    ) -> Float[Tensor, "m dd"]:
        """`condition` is `self.condition(z)`: computed once for all noise levels of a token."""
        y = F.silu(self._times(t) + condition)
        hidden = self.token_in(x)
        for block in self.blocks:
            hidden = block(hidden, y)
        shift, scale = self.last_modulation(y).chunk(2, dim=-1)
        return self.token_out(torch.addcmul(shift, self.last_norm(hidden), 1 + scale))

    def _times(self, t: Int[Tensor, " m"]) -> Float[Tensor, "m w"]:
        # With more rows than steps it is cheaper to embed every step once and to look them up.
        if len(t) <= STEPS:
            return self._embedded(time_embedding(t))
        return F.embedding(t, self._embedded(every_time(t.device)))

    def _embedded(self, angles: Float[Tensor, "m c"]) -> Float[Tensor, "m w"]:
        return self.time_out(F.silu(self.time_in(angles.to(self.time_in.weight.dtype))))


class DenoisingErrors(nn.Module):
    """What training asks of the head: tokens are noised and predicted, and the errors taken. One piece to compile."""

    def __init__(self, prediction: Prediction) -> None:
        super().__init__()
        self.prediction: Prediction = prediction

    def forward(
        self,
        head: DiffusionHead,
        x0: Float[Tensor, "m d"],
        t: Int[Tensor, " m"],
        noise: Float[Tensor, "m d"],
        condition: Float[Tensor, "m w"],
        bound: bool,
    ) -> Float[Tensor, " m"]:
        """Error of each token at its step, plus its variance bound with `bound`."""
        xt = add_noise(x0, t, noise)
        output = head(xt, t, condition)
        error = prediction_error(self.prediction, output, x0, noise, t)
        if bound:
            error = error + variance_bound(as_noise(self.prediction, output, xt, t), x0, xt, t)
        return error


def time_embedding(t: Int[Tensor, " m"]) -> Float[Tensor, "m c"]:
    """Cosines then sines of t at geometric frequencies."""
    half = TIME_CHANNELS // 2
    frequencies = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32, device=t.device) / half)
    angles = t.float().unsqueeze(-1) * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def every_time(device: torch.device) -> Float[Tensor, "steps c"]:
    """The embedding of every step, computed once on a device."""
    return _every_time(device)


@lru_cache(maxsize=16)
def _every_time(device: torch.device) -> Float[Tensor, "steps c"]:
    with torch.inference_mode(False):
        return time_embedding(torch.arange(STEPS, device=device))


def _posterior_mean(x0: Tensor, xt: Tensor, t: Tensor) -> Tensor:
    """Mean of q(x_{t-1} | x_t, x_0)."""
    table = tables(x0.device)
    return table.of_x0[t].unsqueeze(-1) * x0 + table.of_xt[t].unsqueeze(-1) * xt


def _posterior(xt: Tensor, eps: Tensor, raw: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log variance of p(x_{t-1} | x_t) from the head's two outputs."""
    table = tables(xt.device)
    bars = table.alpha_bars[t].unsqueeze(-1)
    x0 = (xt - (1 - bars).sqrt() * eps) / bars.sqrt()
    low, high = table.log_posterior[t].unsqueeze(-1), table.log_beta[t].unsqueeze(-1)
    fraction = (raw + 1) / 2
    return _posterior_mean(x0, xt, t), fraction * high + (1 - fraction) * low


def _discretised_log_likelihood(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Log probability of x in bins of 2/255 under a Gaussian, with the tanh approximation of its distribution."""

    def cdf(value: Tensor) -> Tensor:
        return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (value + 0.044715 * value**3)))

    centred, inverse = x - mean, (-log_scale).exp()
    upper, lower = cdf(inverse * (centred + 1 / 255)), cdf(inverse * (centred - 1 / 255))
    inner = (upper - lower).clamp(min=1e-12).log()
    inner = torch.where(x > 0.999, (1 - lower).clamp(min=1e-12).log(), inner)
    return torch.where(x < -0.999, upper.clamp(min=1e-12).log(), inner)
