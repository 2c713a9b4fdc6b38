"""What a step minimises: masked diffusion, which is pretraining and fine-tuning; `preference.py` has DPO."""

from dataclasses import dataclass
from functools import partial
from typing import Protocol

from jaxtyping import Float, Int
from torch import Tensor, nn

from lightgen.model.diffusion import STEPS, add_noise, as_noise, prediction_error, variance_bound
from lightgen.model.flops import forward_flops
from lightgen.model.masking import MaskLaw, gather_tokens, patchify
from lightgen.model.student import Grid, Student, Text
from lightgen.seeds import derive_seed
from lightgen.training import keyed
from lightgen.training.data import Batch, Features, rows_of_step
from lightgen.training.loader import RowsOf

PAPER_MASKS = MaskLaw()
Figures = dict[str, Tensor]


@dataclass(frozen=True)
class Place:
    """Piece `piece` of the `pieces` into which processes and accumulation cut the global batch of a step."""

    step: int
    piece: int = 0
    pieces: int = 1


class Objective(Protocol):
    """A loss that is a pure function of weights, batch and place; randomness is keyed by sample, never by rank."""

    @property
    def features(self) -> Features:
        """What is read."""
        ...

    @property
    def batch_size(self) -> int:
        """Samples of the global batch."""
        ...

    def schedule(self) -> RowsOf:
        """The rows of every step."""
        ...

    def loss(self, student: Student, batch: Batch, place: Place) -> tuple[Tensor, Figures]:
        """The mean loss of a piece and the figures to log beside it, all of them means over samples."""
        ...

    def flops(self, student: Student) -> float:
        """Floating-point operations of a sample in a step, by formula."""
        ...

    def untrained(self, student: Student) -> list[nn.Parameter]:
        """Parameters that the loss depends on for no batch at all; `make_job` freezes them."""
        ...


@dataclass(frozen=True)
class Draw:
    """The randomness of a piece: what is hidden, at which noise level, with which noise.

    Copies come first: row c * (images * masked) + i of `times` and `noise` is copy c of masked token i.
    """

    visible: Int[Tensor, "b v"]
    masked: Int[Tensor, "b m"]
    times: Int[Tensor, " r"]
    noise: Float[Tensor, "r d"]

    @property
    def copies(self) -> int:
        """Noise levels for each masked token."""
        return len(self.times) // self.masked.numel()


def make_draw(keys: keyed.Keys, tokens: int, token_dim: int, hidden: int, copies: int, time_power: float = 1.0) -> Draw:
    """An order for each image, of which the first `hidden` tokens are hidden, `copies` noise levels for each of them.

    Levels are u^time_power of the schedule, u uniform: below 1 the coarse ones come more often, where all that a token
    can know comes from the trunk.
    """
    orders = keyed.permutations(keyed.stream(keys, "order"), tokens)
    shape = (len(keys), copies, hidden)
    if time_power == 1:
        times = keyed.integers(keyed.stream(keys, "time"), copies * hidden, STEPS)
    else:
        levels = keyed.uniform(keyed.stream(keys, "time"), copies * hidden) ** time_power
        times = (STEPS * levels).long().clamp(max=STEPS - 1)
    noise = keyed.normal(keyed.stream(keys, "noise"), copies * hidden * token_dim)
    return Draw(
        orders[:, hidden:],
        orders[:, :hidden],
        times.view(shape).transpose(0, 1).flatten(),
        noise.view(*shape, token_dim).transpose(0, 1).flatten(0, 2),
    )


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

    features: Features
    batch_size: int
    copies: int
    seed: int
    bound: bool = True
    masks: MaskLaw = PAPER_MASKS
    time_power: float = 1.0
    ratios: int = 1

    def schedule(self) -> RowsOf:
        return partial(rows_of_step, self.seed, rows=len(self.features), batch_size=self.batch_size)

    def loss(self, student: Student, batch: Batch, place: Place) -> tuple[Tensor, Figures]:
        student.train()
        keys = batch.keys(self.seed)
        tokens, grid = as_tokens(student, batch.latents(keys))
        # All images of a piece hide equally many tokens; `ratios` says how many different numbers a step has.
        share = uniform_of(self.seed, "mask-ratio", place.step, place.piece * self.ratios // place.pieces)
        hidden = self.masks.hidden(grid.tokens, share)
        draw = make_draw(keys, grid.tokens, tokens.shape[2], hidden, self.copies, self.time_power)
        dropped = keyed.uniform(keyed.stream(keys, "text-drop"), 1)[:, 0] < student.config.text_drop
        text = student.drop_text(student.text(batch.text.float(), batch.keep), dropped)
        return errors(student, tokens, text, grid, draw, self.bound).mean(), {}

    def flops(self, student: Student) -> float:
        return 3 * image_flops(student, self.features, self.masks, self.copies)

    def untrained(self, student: Student) -> list[nn.Parameter]:
        return unread_parameters(student, drops_captions=True)


def unread_parameters(student: Student, drops_captions: bool) -> list[nn.Parameter]:
    """Parameters that no denoising error depends on.

    Without captions that are dropped, that is the null text; without a block that attends to the text, also all that
    reads it. Nothing else depends on the objective, and nothing on the batch: a mask that leaves no token visible, or
    drops every caption, still sends empty or masked tensors the same way through the student.
    """
    if not student.text_blocks:
        return [*student.text.parameters(), student.null_text]
    return [] if drops_captions else [student.null_text]


def image_flops(student: Student, features: Features, masks: MaskLaw, copies: int) -> float:
    """Operations of a forward pass over one image at the law's median."""
    _, rows, columns = features.latent_shape
    tokens = (rows // student.config.patch) * (columns // student.config.patch)
    hidden = masks.hidden(tokens, 0.5)
    return forward_flops(student.config, tokens, hidden, features.longest_text, copies * hidden)


def uniform_of(*parts: object) -> float:
    """A number in [0, 1) that stands for `parts`."""
    return derive_seed(*parts) / 2**63


def as_tokens(student: Student, latents: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "b n t"], Grid]:
    """Latents as tokens, and their grid."""
    patch = student.config.patch
    rows, columns = latents.shape[2] // patch, latents.shape[3] // patch
    return patchify(latents, patch), Grid(rows, columns)
