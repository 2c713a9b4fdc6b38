"""What a training step minimises: masked diffusion, for pretraining and fine-tuning. `preference.py` has DPO."""

from dataclasses import dataclass
from functools import partial
from typing import Protocol

from jaxtyping import Float, Int
from torch import Tensor, nn

from lightgen.model.diffusion import STEPS
from lightgen.model.flops import forward_flops
from lightgen.model.masking import MaskLaw, gather_tokens, patchify
from lightgen.model.student import Grid, Student, Text
from lightgen.seeds import derive_seed
from lightgen.training import counter_rng
from lightgen.training.data import Batch, Features, Schedule, rows_of_step

PAPER_MASKS = MaskLaw()
Metrics = dict[str, Tensor]


@dataclass(frozen=True)
class Microbatch:
    """Microbatch `index` of the `count` into which processes and accumulation split the global batch of a step."""

    step: int
    index: int = 0
    count: int = 1


class Objective(Protocol):
    """A loss that is a pure function of weights, batch and microbatch; random numbers belong to samples, not ranks."""

    @property
    def features(self) -> Features:
        """The features to read."""
        ...

    @property
    def batch_size(self) -> int:
        """Samples of the global batch."""
        ...

    def schedule(self) -> Schedule:
        """The rows of every step."""
        ...

    def loss(self, student: Student, batch: Batch, microbatch: Microbatch) -> tuple[Tensor, Metrics]:
        """The mean loss of a microbatch and the metrics to log beside it, which are averaged over microbatches."""
        ...

    def flops(self, student: Student) -> float:
        """Floating-point operations of a sample in a step, by formula."""
        ...

    def untrained(self, student: Student) -> list[nn.Parameter]:
        """Parameters that the loss depends on for no batch at all; `make_trainer` freezes them."""
        ...


@dataclass(frozen=True)
class MaskAndNoise:
    """What is drawn at random for a microbatch: which tokens are hidden, and their timesteps and noise.

    A hidden token gets several timesteps ("copies"). Row c * (images * masked) + i of `times` and `noise` is copy c of
    hidden token i.
    """

    visible: Int[Tensor, "b v"]
    masked: Int[Tensor, "b m"]
    times: Int[Tensor, " r"]
    noise: Float[Tensor, "r d"]

    @property
    def copies(self) -> int:
        """Timesteps of each hidden token."""
        return len(self.times) // self.masked.numel()


def draw_mask_and_noise(
    keys: counter_rng.Keys, tokens: int, token_dim: int, hidden: int, copies: int, time_power: float = 1.0
) -> MaskAndNoise:
    """For each image a random order, of which the first `hidden` tokens are hidden, each with `copies` timesteps.

    Timesteps are u^time_power of the schedule with u uniform. A power below 1 makes high noise more frequent. There,
    all that can be known of a token comes from the trunk.
    """
    orders = counter_rng.permutations(counter_rng.stream(keys, "order"), tokens)
    shape = (len(keys), copies, hidden)
    if time_power == 1:
        times = counter_rng.integers(counter_rng.stream(keys, "time"), copies * hidden, STEPS)
    else:
        levels = counter_rng.uniform(counter_rng.stream(keys, "time"), copies * hidden) ** time_power
        times = (STEPS * levels).long().clamp(max=STEPS - 1)
    noise = counter_rng.normal(counter_rng.stream(keys, "noise"), copies * hidden * token_dim)
    return MaskAndNoise(
        orders[:, hidden:],
        orders[:, :hidden],
        times.view(shape).transpose(0, 1).flatten(),
        noise.view(*shape, token_dim).transpose(0, 1).flatten(0, 2),
    )


def denoising_errors(
    student: Student, tokens: Float[Tensor, "b n t"], text: Text, grid: Grid, drawn: MaskAndNoise, bound: bool
) -> Float[Tensor, "c b m"]:
    """Denoising error of each copy of each hidden token, plus its variance bound with `bound`.

    The head runs on hidden tokens only.
    """
    encoded = student.encode(tokens, drawn.visible, grid)
    (z,) = student.conditions(encoded, drawn.visible, grid, text)
    condition = student.head.condition(gather_tokens(z, drawn.masked).flatten(0, 1)).repeat(drawn.copies, 1)
    x0 = gather_tokens(tokens, drawn.masked).flatten(0, 1).repeat(drawn.copies, 1)
    error = student.errors(student.head, x0, drawn.times, drawn.noise, condition, bound)
    return error.unflatten(0, (drawn.copies, *drawn.masked.shape))


@dataclass(frozen=True)
class MaskedDiffusion:
    """Denoise hidden tokens, given the visible ones and the text.

    `copies`: timesteps of a hidden token in a step. `bound`: train the variance of the sampler too. `ratios`: different
    shares of hidden tokens in a step.
    """

    features: Features
    batch_size: int
    copies: int
    seed: int
    bound: bool = True
    masks: MaskLaw = PAPER_MASKS
    time_power: float = 1.0
    ratios: int = 1

    def schedule(self) -> Schedule:
        return partial(rows_of_step, self.seed, rows=len(self.features), batch_size=self.batch_size)

    def loss(self, student: Student, batch: Batch, microbatch: Microbatch) -> tuple[Tensor, Metrics]:
        student.train()
        keys = batch.keys(self.seed)
        tokens, grid = as_tokens(student, batch.latents(keys))
        hidden = self.masks.hidden(grid.tokens, self._mask_quantile(microbatch))
        drawn = draw_mask_and_noise(keys, grid.tokens, tokens.shape[2], hidden, self.copies, self.time_power)
        dropped = counter_rng.uniform(counter_rng.stream(keys, "text-drop"), 1)[:, 0] < student.config.text_drop
        text = student.drop_text(student.text(batch.text.float(), batch.keep), dropped)
        return denoising_errors(student, tokens, text, grid, drawn, self.bound).mean(), {}

    def flops(self, student: Student) -> float:
        return 3 * image_flops(student, self.features, self.masks, self.copies)

    def untrained(self, student: Student) -> list[nn.Parameter]:
        return unread_parameters(student, drops_captions=True)

    def _mask_quantile(self, microbatch: Microbatch) -> float:
        """All images of a microbatch hide equally many tokens, for its tensors are dense."""
        return derive_uniform(
            self.seed, "mask-ratio", microbatch.step, microbatch.index * self.ratios // microbatch.count
        )


def unread_parameters(student: Student, drops_captions: bool) -> list[nn.Parameter]:
    """Parameters that no denoising error depends on.

    The null text is one where captions are never dropped. In a student without a block that attends to the text, so is
    everything that reads the text. Nothing else depends on the objective, and nothing on the batch: where no token is
    visible, or all captions are dropped, empty or masked tensors take the same way through the student.
    """
    if not student.text_blocks:
        return [*student.text.parameters(), student.null_text]
    return [] if drops_captions else [student.null_text]


def image_flops(student: Student, features: Features, masks: MaskLaw, copies: int) -> float:
    """Operations of a forward pass over one image, with the median number of hidden tokens and the mean text."""
    _, rows, columns = features.latent_shape
    tokens = (rows // student.config.patch) * (columns // student.config.patch)
    hidden = masks.hidden(tokens, 0.5)
    return forward_flops(student.config, tokens, hidden, features.mean_text, copies * hidden)


def derive_uniform(*parts: object) -> float:
    """A number in [0, 1) derived from `parts`, as `derive_seed` derives a seed."""
    return derive_seed(*parts) / 2**63


def as_tokens(student: Student, latents: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "b n t"], Grid]:
    """Latents as tokens, and their grid."""
    patch = student.config.patch
    rows, columns = latents.shape[2] // patch, latents.shape[3] // patch
    return patchify(latents, patch), Grid(rows, columns)
