"""Draws images from the student: tokens in random order, each finished by the diffusion head under guidance."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, Self

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from lightgen.config import QUIET, RUN, Config
from lightgen.model.diffusion import STEPS, Schedule, add_noise, as_noise, cosine_schedule, sample
from lightgen.model.masking import decode_counts, gather_tokens, scatter_tokens
from lightgen.model.precision import Precision, mixed_precision
from lightgen.model.student import Grid, Student, Text

REHEARSED = 4  # iterations, and steps of the head, in a rehearsal
OnStep = Callable[[int, Tensor], Tensor | None]  # step and tokens; tokens that it returns take their place


class RedrawConfig(Config):
    """Draws every token again, given all others, once the image is whole.

    The first tokens are drawn when little of the image is known. Drawn again, they take up what came after them. It is
    Gibbs sampling of the student's own conditionals, each begun from the token with noise added (as in SDEdit).
    """

    sweeps: int = Field(default=1, ge=1, description="times that each token is drawn again")
    noise: float = Field(default=0.85, gt=0, le=1, description="level of the schedule that tokens go back to; 1: all")
    head_steps: int = Field(default=10, ge=2, le=1000, description="noise levels on the way back")

    def rehearse(self, folder: Path) -> Self:
        """See `Config.rehearse`: one sweep of few steps."""
        return self.model_copy(update={"sweeps": 1, "head_steps": min(self.head_steps, REHEARSED)})


class SampleConfig(Config):
    """How images are drawn; the defaults are the paper's (model_facts 4.1)."""

    iterations: int = Field(default=64, ge=1, description="passes of the trunk; never more than there are tokens")
    guidance: float = Field(default=4.0, ge=0, description="1 is none")
    guidance_schedule: Literal["constant", "linear"] = Field(
        default="constant", description="linear: from 1 to `guidance` with the share of tokens drawn"
    )
    order: Literal["random", "raster"] = Field(
        default="random", description="of the tokens: an order of its own for each image, or row by row"
    )
    head: Literal["ddpm", "ddim"] = Field(default="ddpm", description="ddim is deterministic and needs fewer steps")
    head_steps: int = Field(default=100, ge=2, le=1000, description="noise levels that a token is drawn through")
    temperature: float = Field(default=1.0, ge=0, description="factor of the noise injected by ddpm")
    start_temperature: float = Field(default=1.0, gt=0, description="factor of the noise a token starts from")
    clip_x0: float | None = Field(default=None, gt=0, description="bound of a predicted token; None as published")
    redraw: RedrawConfig | None = Field(
        default=None, description="draw tokens again in the light of all others", json_schema_extra=QUIET
    )
    precision: Precision = Field(
        default="fp32",
        description="of matrix products; auto: bfloat16 where the device multiplies it natively",
        json_schema_extra=QUIET,
    )
    batch_size: int = Field(default=64, gt=0, description="images drawn together", json_schema_extra=RUN)

    def rehearse(self, folder: Path) -> Self:
        """See `Config.rehearse`: few iterations and steps."""
        few = {name: min(getattr(self, name), REHEARSED) for name in ("iterations", "head_steps")}
        redraw = self.redraw and self.redraw.rehearse(folder)
        return self.model_copy(update={**few, "redraw": redraw})


@dataclass(frozen=True)
class Hole:
    """What inpainting starts from: the tokens of pictures, and which of them are drawn again, the same in all."""

    tokens: Float[Tensor, "b n t"]
    hidden: Bool[Tensor, " n"]


@dataclass
class _State:
    """What changes while a batch is drawn."""

    tokens: Float[Tensor, "b n t"]
    orders: Int[Tensor, "b n"]
    generators: list[torch.Generator]
    done: int = 0


@dataclass(frozen=True)
class _Turn:
    """Tokens that are drawn together: which are seen, which are drawn, from what noise, how strongly guided.

    `noise` holds what the tokens start from, then one slice a step for ddpm.
    """

    known: Int[Tensor, "b v"]
    chosen: Int[Tensor, "b m"]
    noise: Float[Tensor, "s bm d"]
    schedule: Schedule
    scale: float


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
        counts = decode_counts(hidden, config.iterations)
        turns = [*(partial(_decode, count) for count in counts), *_redraws(grid, hole.hidden, config)]
        for step, next_turn in enumerate(turns):
            _draw(student, texts, grid, state, next_turn(grid, state, config), config)
            if on_step is not None:
                changed = on_step(step, state.tokens)
                state.tokens = state.tokens if changed is None else changed
    return state.tokens


def tokens_by_turn(grid: Grid, hidden: Bool[Tensor, " n"], config: SampleConfig) -> list[int]:
    """Tokens that each pass of the trunk draws of an image, in order; those that are drawn again count again."""
    counts = list(decode_counts(int(hidden.sum()), config.iterations))
    again = [int(hidden.cpu()[group].sum()) for group in apart(grid)]
    sweeps = 0 if config.redraw is None else config.redraw.sweeps
    return counts + sweeps * [count for count in again if count]


def _orders(generators: list[torch.Generator], hidden: Bool[Tensor, " n"], config: SampleConfig) -> Int[Tensor, "b n"]:
    """Places of the known tokens, then of the hidden ones in the order in which each image's are drawn."""
    known, places = torch.nonzero(~hidden).flatten(), torch.nonzero(hidden).flatten()
    if config.order == "raster":
        return torch.cat([known, places]).expand(len(generators), -1)
    shuffled = [places[torch.randperm(len(places), generator=generator)] for generator in generators]
    return torch.stack([torch.cat([known, order]) for order in shuffled])


def _decode(count: int, grid: Grid, state: _State, config: SampleConfig) -> _Turn:
    """The next `count` tokens of each image, where those before them are seen."""
    known, chosen = state.orders[:, : state.done], state.orders[:, state.done : state.done + count]
    state.done += count
    scale = config.guidance
    if config.guidance_schedule == "linear":
        scale = 1 + (config.guidance - 1) * state.done / grid.tokens
    schedule = cosine_schedule(config.head_steps)
    return _Turn(known, chosen, _noise(state, count, schedule, config), schedule, scale)


def _redraws(grid: Grid, hidden: Bool[Tensor, " n"], config: SampleConfig) -> Iterator[Callable[..., _Turn]]:
    """The turns of all sweeps; only `hidden` places are drawn again."""
    if config.redraw is None:
        return
    level = max(2, round(config.redraw.noise * STEPS))
    schedule = cosine_schedule(config.redraw.head_steps, level)
    for _ in range(config.redraw.sweeps):
        for group in apart(grid):
            places = group[hidden.cpu()[group]]
            if len(places):
                yield partial(_redraw, places, schedule)


def apart(grid: Grid) -> list[Int[Tensor, " m"]]:
    """All places in groups no two of which touch: by row and column, odd or even."""
    row, column = torch.arange(grid.tokens) // grid.columns, torch.arange(grid.tokens) % grid.columns
    parity = 2 * (row % 2) + column % 2
    return [torch.nonzero(parity == group).flatten() for group in range(4)]


def _redraw(places: Int[Tensor, " m"], schedule: Schedule, grid: Grid, state: _State, config: SampleConfig) -> _Turn:
    """`places` drawn again, from the tokens there with the noise of the last step, where all others are seen."""
    others = torch.ones(grid.tokens, dtype=torch.bool)
    others[places] = False
    images, device = len(state.tokens), state.tokens.device
    known, chosen = (each.expand(images, -1).to(device) for each in (torch.nonzero(others).flatten(), places))
    noise = _noise(state, len(places), schedule, config)
    before = gather_tokens(state.tokens, chosen).flatten(0, 1)
    level = torch.full((len(before),), int(schedule.times[-1]), device=device)
    noise = torch.cat([add_noise(before, level, noise[0]).unsqueeze(0), noise[1:]])
    return _Turn(known, chosen, noise, schedule, config.guidance)


def _noise(state: _State, count: int, schedule: Schedule, config: SampleConfig) -> Float[Tensor, "s bm d"]:
    """Start noise, then one slice a step for ddpm; from each image's own generator, on the CPU for equal streams."""
    slices = 1 + (schedule.times.size if config.head == "ddpm" else 0)
    dim = state.tokens.shape[2]
    drawn = [torch.randn(slices, count, dim, generator=generator) for generator in state.generators]
    noise = torch.stack(drawn, dim=1).flatten(1, 2).to(state.tokens.device)
    noise[0] *= config.start_temperature
    return noise


def _draw(student: Student, texts: list[Text], grid: Grid, state: _State, turn: _Turn, config: SampleConfig) -> None:
    """One pass of the trunk over the tokens that are seen, then of the head over those that are drawn."""
    encoded = student.encode(state.tokens.to(student.null_text.dtype), turn.known, grid)
    conditions = student.conditions(encoded, turn.known, grid, *texts)
    z = [gather_tokens(each, turn.chosen).flatten(0, 1) for each in conditions]
    drawn = draw_tokens(student, z, turn, config)
    state.tokens = scatter_tokens(state.tokens, turn.chosen, drawn.unflatten(0, turn.chosen.shape))


def draw_tokens(student: Student, z: list[Tensor], turn: _Turn, config: SampleConfig) -> Float[Tensor, "m d"]:
    """Tokens for the vectors `z` = [with text] or [with text, without]; guidance acts on the noise prediction."""
    head, prediction = student.head, student.config.prediction
    condition = head.condition(torch.cat(z))

    def predict(x: Tensor, t: int) -> Tensor:
        x = x.repeat(len(z), 1)
        time = torch.full((1,), t, device=x.device)
        # Guidance and the steps of the schedule are small differences: they are taken in float32.
        output = as_noise(prediction, head(x.to(student.null_text.dtype), time, condition).float(), x, time)
        return guide(output, turn.scale) if len(z) == 2 else output

    injected = turn.noise[1:] if config.head == "ddpm" else None
    return sample(predict, turn.noise[0], injected, turn.schedule, config.temperature, config.clip_x0)


def guide(output: Float[Tensor, "mm dd"], scale: float) -> Float[Tensor, "m dd"]:
    """eps_u + scale (eps_c - eps_u); the variance is the conditional half's own (model_facts 4.3)."""
    with_text, without = output.chunk(2)
    dim = with_text.shape[1] // 2
    eps = without[:, :dim] + scale * (with_text[:, :dim] - without[:, :dim])
    return torch.cat([eps, with_text[:, dim:]], dim=1)
