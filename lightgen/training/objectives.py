"""What a step minimises: masked diffusion (pretraining, fine-tuning on winners) or direct preferences (DPO)."""

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from lightgen.model.diffusion import STEPS, add_noise, as_noise, prediction_error, variance_bound
from lightgen.model.masking import MaskLaw, gather_tokens, masked_count, patchify, random_orders
from lightgen.model.student import Grid, Student, Text
from lightgen.training.data import Batch, FeatureSet, rows_of_step, step_generator

PAPER_MASKS = MaskLaw()


class Objective(Protocol):
    """A loss that is a pure function of the weights and the step."""

    def loss(self, student: Student, step: int) -> tuple[Tensor, dict[str, float]]:
        """The loss of step `step` and the figures to log beside it."""
        ...


@dataclass(frozen=True)
class Draw:
    """The randomness of one step: what is hidden, at which noise level, with which noise.

    Copies come first: row c * (images * masked) + i of `times` and `noise` is copy c of masked token i.
    """

    visible: Int[Tensor, "b v"]
    masked: Int[Tensor, "b m"]
    times: Int[Tensor, " r"]
    noise: Float[Tensor, "r d"]

    def to(self, device: torch.device) -> "Draw":
        """The draw on `device`; it is always made on the CPU, so that every device sees the same."""
        return Draw(*(part.to(device) for part in (self.visible, self.masked, self.times, self.noise)))

    @property
    def copies(self) -> int:
        """Noise levels for each masked token."""
        return len(self.times) // self.masked.numel()


def draw_step(
    shape: torch.Size | tuple[int, int, int],
    law: MaskLaw,
    copies: int,
    generator: torch.Generator,
    time_power: float = 1.0,
) -> Draw:
    """For tokens of `shape` one mask ratio, an order for each image, `copies` noise levels for each masked token.

    Levels are u^time_power of the schedule, u uniform: below 1 the coarse ones come more often, where all that a token
    can know comes from the trunk.
    """
    images, tokens, token_dim = shape
    hidden = masked_count(tokens, law.ratio(float(torch.rand((), generator=generator, dtype=torch.float64))))
    orders = random_orders(images, tokens, generator)
    rows = copies * images * hidden
    if time_power == 1:
        times = torch.randint(0, STEPS, (rows,), generator=generator)
    else:
        times = (STEPS * torch.rand(rows, generator=generator) ** time_power).long().clamp(max=STEPS - 1)
    noise = torch.randn(rows, token_dim, generator=generator)
    return Draw(orders[:, hidden:], orders[:, :hidden], times, noise)


def errors(
    student: Student, tokens: Float[Tensor, "b n t"], text: Text, grid: Grid, draw: Draw, bound: bool
) -> Float[Tensor, "c b m"]:
    """Prediction error (plus the variance bound) of each copy of each masked token; the head sees no other token."""
    encoded = student.encode(tokens, draw.visible, grid)
    (z,) = student.conditions(encoded, draw.visible, grid, text)
    condition = student.head.condition(gather_tokens(z, draw.masked).flatten(0, 1)).repeat(draw.copies, 1)
    x0 = gather_tokens(tokens, draw.masked).flatten(0, 1).repeat(draw.copies, 1)
    xt = add_noise(x0, draw.times, draw.noise)
    output, prediction = student.head(xt, draw.times, condition), student.config.prediction
    error = prediction_error(prediction, output, x0, draw.noise, draw.times)
    if bound:
        error = error + variance_bound(as_noise(prediction, output, xt, draw.times), x0, xt, draw.times)
    return error.unflatten(0, (draw.copies, *draw.masked.shape))


@dataclass(frozen=True)
class MaskedDiffusion:
    """Predict the noise of hidden tokens from the visible ones and the text."""

    features: FeatureSet
    batch_size: int
    copies: int
    seed: int
    bound: bool = True
    masks: MaskLaw = PAPER_MASKS
    time_power: float = 1.0

    def loss(self, student: Student, step: int) -> tuple[Tensor, dict[str, float]]:
        student.train()
        generator = step_generator(self.seed, step, "masked-diffusion")
        rows = rows_of_step(self.seed, step, len(self.features), self.batch_size)
        device = student.null_text.device
        batch = self.features.batch(rows, generator).to(device)
        tokens, grid = as_tokens(student, batch)
        draw = draw_step(tokens.shape, self.masks, self.copies, generator, self.time_power).to(device)
        text = student.text(batch.text, batch.keep)
        dropped = (torch.rand(len(tokens), generator=generator) < student.config.text_drop).to(device)
        return errors(student, tokens, student.drop_text(text, dropped), grid, draw, self.bound).mean(), {}


@dataclass(frozen=True)
class Preference:
    """Direct preference optimisation: prefer winners to losers more than the frozen reference does (model_facts 3.3).

    Mask, noise levels and noise are shared by both images and both models; dropout is off in all four passes.
    """

    winners: FeatureSet
    losers: FeatureSet
    reference: Student
    batch_size: int
    copies: int
    beta: float
    seed: int
    masks: MaskLaw = PAPER_MASKS

    def loss(self, student: Student, step: int) -> tuple[Tensor, dict[str, float]]:
        generator = step_generator(self.seed, step, "preference")
        rows = rows_of_step(self.seed, step, len(self.winners), self.batch_size)
        device = student.null_text.device
        winners, losers = (side.batch(rows, generator).to(device) for side in (self.winners, self.losers))
        tokens, grid = as_tokens(student, winners)
        draw = draw_step(tokens.shape, self.masks, self.copies, generator).to(device)
        pair = torch.stack([tokens, as_tokens(student, losers)[0]])
        with torch.no_grad():
            reference = pair_errors(self.reference, pair, winners, grid, draw)
        policy = pair_errors(student, pair, winners, grid, draw)
        return preference_loss(policy, reference, self.beta)


def pair_errors(
    student: Student, pair: Float[Tensor, "2 p n t"], batch: Batch, grid: Grid, draw: Draw
) -> Float[Tensor, "2 p"]:
    """Mean prediction error of winners (row 0) and losers (row 1) under the same draw, dropout off."""
    student.eval()
    text = student.text(batch.text, batch.keep)
    each = [errors(student, tokens, text, grid, draw, bound=False).mean(dim=(0, 2)) for tokens in pair]
    return torch.stack(each)


def preference_loss(
    policy: Float[Tensor, "2 p"], reference: Float[Tensor, "2 p"], beta: float
) -> tuple[Tensor, dict[str, float]]:
    """-mean over pairs of log sigmoid(-beta/2 [(policy - reference) of winner - (policy - reference) of loser])."""
    gain = policy - reference
    margin = -0.5 * beta * (gain[0] - gain[1])
    # Ties count half: before the first step every margin is exactly zero.
    accuracy = ((margin > 0).float() + 0.5 * (margin == 0).float()).mean()
    figures = {
        "accuracy": float(accuracy),
        "margin": float(margin.detach().mean()),
        "winner_error": float(policy[0].detach().mean()),
        "loser_error": float(policy[1].detach().mean()),
    }
    return -F.logsigmoid(margin).mean(), figures


def as_tokens(student: Student, batch: Batch) -> tuple[Float[Tensor, "b n t"], Grid]:
    """Latents as tokens, and their grid."""
    patch = student.config.patch
    rows, columns = batch.latents.shape[2] // patch, batch.latents.shape[3] // patch
    return patchify(batch.latents, patch), Grid(rows, columns)
