"""Draws images from the student: tokens in random order, each finished by the diffusion head under guidance."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from lightgen.config import QUIET, RUN, Config
from lightgen.model.diffusion import Schedule, as_noise, cosine_schedule, sample
from lightgen.model.masking import decode_counts, gather_tokens, scatter_tokens
from lightgen.model.precision import Precision, mixed_precision
from lightgen.model.student import Grid, Student, Text

REHEARSED = 4  # iterations, and steps of the head, in a rehearsal
OnStep = Callable[[int, Tensor], Tensor | None]  # step and tokens; tokens that it returns take their place


class SampleConfig(Config):
    """How images are drawn; the defaults are the paper's (model_facts 4.1)."""

    iterations: int = Field(default=64, ge=1, description="passes of the trunk; never more than there are tokens")
    guidance: float = Field(default=4.0, ge=0, description="1 is none")
    guidance_schedule: Literal["constant", "linear"] = "constant"
    order: Literal["random", "raster"] = "random"
    head: Literal["ddpm", "ddim"] = Field(default="ddpm", description="ddim is deterministic and needs fewer steps")
    head_steps: int = Field(default=100, ge=2, le=1000)
    temperature: float = Field(default=1.0, ge=0, description="factor of the noise injected by ddpm")
    start_temperature: float = Field(default=1.0, gt=0, description="factor of the noise a token starts from")
    clip_x0: float | None = Field(default=None, gt=0, description="bound of a predicted token; None as published")
    precision: Precision = Field(
        default="fp32",
        description="of matrix products; auto: bfloat16 where the device multiplies it natively",
        json_schema_extra=QUIET,
    )
    batch_size: int = Field(default=64, gt=0, json_schema_extra=RUN)

    def rehearse(self, folder: Path) -> Self:
        """See `Config.rehearse`: few iterations and steps."""
        few = {name: min(getattr(self, name), REHEARSED) for name in ("iterations", "head_steps")}
        return self.model_copy(update=few)


@dataclass(frozen=True)
class Hole:
    """What inpainting starts from: the tokens of pictures, and which of them are drawn anew, the same in all."""

    tokens: Float[Tensor, "b n t"]
    hidden: Bool[Tensor, " n"]


@dataclass
class _State:
    """What changes while a batch is drawn."""

    tokens: Float[Tensor, "b n t"]
    orders: Int[Tensor, "b n"]
    generators: list[torch.Generator]
    done: int = 0


@torch.no_grad()
def sample_latents(
    student: Student,
    text: Text,
    grid: Grid,
    seeds: Sequence[int],
    config: SampleConfig,
    *,
    hole: Hole | None = None,
    against: Text | None = None,
    on_step: OnStep | None = None,
) -> Float[Tensor, "b n t"]:
    """Tokens of one image a seed. An image depends on its own seed and text only, not on its batch.

    With `hole` only its hidden tokens are drawn, on the schedule of their own number, and the others are seen from the
    start (model_facts 4.6). Guidance leads away from `against`, by default from the null text.
    """
    student.eval()
    device = student.null_text.device
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    if hole is None:
        tokens = torch.zeros(len(seeds), grid.tokens, student.config.token_dim)
        hole = Hole(tokens, torch.ones(grid.tokens, dtype=torch.bool))
    hidden = int(hole.hidden.sum())
    orders = _orders(generators, hole.hidden.cpu(), config).to(device)
    state = _State(hole.tokens.to(device), orders, generators, done=grid.tokens - hidden)
    texts = [text] if config.guidance == 1 else [text, against or student.without_text(len(seeds))]
    # float32 is what a model does by itself; a caller's own autocast is left alone.
    with nullcontext() if config.precision == "fp32" else mixed_precision(config.precision, device.type):
        texts = [student.read(each) for each in texts]
        for step, count in enumerate(decode_counts(hidden, config.iterations)):
            _decode(student, texts, grid, state, count, config)
            if on_step is not None:
                changed = on_step(step, state.tokens)
                state.tokens = state.tokens if changed is None else changed
    return state.tokens


def _orders(generators: list[torch.Generator], hidden: Bool[Tensor, " n"], config: SampleConfig) -> Int[Tensor, "b n"]:
    """Places of the known tokens, then of the hidden ones in the order in which each image's are drawn."""
    known, places = torch.nonzero(~hidden).flatten(), torch.nonzero(hidden).flatten()
    if config.order == "raster":
        return torch.cat([known, places]).expand(len(generators), -1)
    shuffled = [places[torch.randperm(len(places), generator=generator)] for generator in generators]
    return torch.stack([torch.cat([known, order]) for order in shuffled])


def _decode(student: Student, texts: list[Text], grid: Grid, state: _State, count: int, config: SampleConfig) -> None:
    """One iteration: the trunk sees what is known, the head draws `count` tokens of each image."""
    known, chosen = state.orders[:, : state.done], state.orders[:, state.done : state.done + count]
    encoded = student.encode(state.tokens.to(student.null_text.dtype), known, grid)
    z = [gather_tokens(each, chosen).flatten(0, 1) for each in student.conditions(encoded, known, grid, *texts)]
    state.done += count
    scale = config.guidance
    if config.guidance_schedule == "linear":
        scale = 1 + (config.guidance - 1) * state.done / grid.tokens
    noise = _noise(state.generators, count, student.config.token_dim, config).to(z[0].device)
    drawn = draw_tokens(student, z, noise, scale, config)
    state.tokens = scatter_tokens(state.tokens, chosen, drawn.unflatten(0, (-1, count)))


def _noise(generators: list[torch.Generator], count: int, dim: int, config: SampleConfig) -> Float[Tensor, "s m d"]:
    """Start noise, then one slice a step for ddpm; from each image's own generator, on the CPU for equal streams."""
    slices = 1 + (_schedule(config).times.size if config.head == "ddpm" else 0)
    drawn = [torch.randn(slices, count, dim, generator=generator) for generator in generators]
    return torch.stack(drawn, dim=1).flatten(1, 2)


def draw_tokens(
    student: Student, z: list[Tensor], noise: Float[Tensor, "s m d"], scale: float, config: SampleConfig
) -> Float[Tensor, "m d"]:
    """Tokens for the vectors `z` = [with text] or [with text, without]; guidance acts on the noise prediction."""
    head, prediction = student.head, student.config.prediction
    condition = head.condition(torch.cat(z))

    def predict(x: Tensor, t: int) -> Tensor:
        x = x.repeat(len(z), 1)
        time = torch.full((1,), t, device=x.device)
        # Guidance and the steps of the schedule are small differences: they are taken in float32.
        output = as_noise(prediction, head(x.to(student.null_text.dtype), time, condition).float(), x, time)
        return guide(output, scale) if len(z) == 2 else output

    injected = noise[1:] if config.head == "ddpm" else None
    start = config.start_temperature * noise[0]
    return sample(predict, start, injected, _schedule(config), config.temperature, config.clip_x0)


def guide(output: Float[Tensor, "mm dd"], scale: float) -> Float[Tensor, "m dd"]:
    """eps_u + scale (eps_c - eps_u); the variance is the conditional half's own (model_facts 4.3)."""
    with_text, without = output.chunk(2)
    dim = with_text.shape[1] // 2
    eps = without[:, :dim] + scale * (with_text[:, :dim] - without[:, :dim])
    return torch.cat([eps, with_text[:, dim:]], dim=1)


def _schedule(config: SampleConfig) -> Schedule:
    return cosine_schedule(config.head_steps)
