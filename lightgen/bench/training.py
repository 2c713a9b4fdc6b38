"""Speed of training and sampling, compared with a baseline in the same run.

The baseline works as the published code does. In training, its head runs on all tokens, every block is recomputed in
the backward pass, and products are float32 on a CPU and float16 on a GPU. In sampling, it runs the whole trunk once for
each half of guidance, and computes keys and values of the text again in every pass.

MFU is model FLOP/s divided by a ceiling that is measured here: products of square matrices, in bfloat16 or float32,
whichever is faster.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch.utils.checkpoint import checkpoint

from lightgen.model.config import PRESETS, StudentConfig
from lightgen.model.diffusion import add_noise, as_noise, prediction_error, variance_bound
from lightgen.model.flops import sample_flops, time_flops, train_flops
from lightgen.model.masking import MaskLaw, masked_count
from lightgen.model.sampling import SampleConfig, sample_latents
from lightgen.model.student import Grid, Student, Text
from lightgen.training import counter_rng
from lightgen.training.allocator import kept_memory
from lightgen.training.data import Batch, FeaturesInMemory
from lightgen.training.launch import LaunchConfig
from lightgen.training.loader import Loader
from lightgen.training.loop import LoopConfig, Trainer, make_trainer, train_step
from lightgen.training.numerics import deterministic_mode
from lightgen.training.objectives import MaskedDiffusion, Metrics, Microbatch, Objective, as_tokens, unread_parameters
from lightgen.training.preference import LiveReference, PairErrorEstimator, Preference, cache_reference
from lightgen.training.ranks import World
from lightgen.training.speed import matmul_ceiling, timed

HIDDEN = 0.85  # every step of a benchmark hides this share, so that steps cost the same; the paper's mean is 0.867
COPIES = 4
OURS, PUBLISHED = "lightgen", "published code's way"
WORKERS = 2  # read ahead where a GPU trains
TOLERANCE = 0.1  # standard deviations of the images; bfloat16 against float32 ends some 0.03 apart, root mean square


@dataclass(frozen=True)
class Rate:
    """Speed of one way to do the work."""

    name: str
    images_per_s: float
    tflops: float
    mfu: float
    memory_gb: float
    difference: float | None = None
    """Largest difference of a sampled number from the first way's, in standard deviations."""


def bench_train(
    preset: str, size_px: int, batch: int, steps: int, words: int = 64, *, compiled: bool = False
) -> list[Rate]:
    """Training steps on random features, with optimizer and EMA: ours, then the baseline."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    config, side = PRESETS[preset], size_px // 16
    features = random_features(config, side, words, 4 * batch)
    ceiling = matmul_ceiling(device)
    law = fixed_share()
    hidden = masked_count(side * side, HIDDEN)
    work = train_flops(config, side * side, hidden, words, COPIES * hidden) * batch
    work += 3 * time_flops(config, COPIES * hidden * batch)
    ours = MaskedDiffusion(features, batch, COPIES, 0, masks=law)
    theirs = Published(features, batch, COPIES, 0, masks=law, half=device == "cuda")
    rates = []
    for name, objective, precision, launch in (
        (OURS, ours, "auto", LaunchConfig(compile=compiled)),
        (PUBLISHED, theirs, "fp32", LaunchConfig()),
    ):
        seconds, memory = time_training(config, side, objective, precision, device, steps, launch)
        rates.append(Rate(name, batch / seconds, work / seconds / 1e12, work / seconds / ceiling, memory))
    return rates


def bench_sample(preset: str, size_px: int, batch: int, sampling: SampleConfig, words: int = 64) -> list[Rate]:
    """Whole images drawn as a recipe with `sampling` draws them: ours, then the baseline, which must draw the same.

    Nothing but `sampling` decides the precision of ours. The baseline draws in float16 on a GPU, in float32 on a CPU.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    student, side = _lively_student(preset, size_px).to(device), size_px // 16
    text = torch.randn(batch, words, student.config.text_dim, generator=torch.Generator().manual_seed(0)).to(device)
    keep = torch.ones(batch, words, dtype=torch.bool, device=device)
    work, ceiling = sample_flops(student.config, sampling, side * side, words, batch), matmul_ceiling(device)
    # The published code draws under an autocast to float16, which only a GPU has.
    half = torch.autocast("cuda", torch.float16) if device == "cuda" else nullcontext()
    as_published = sampling.model_copy(update={"precision": "fp32"})  # the caller's autocast, or none
    ways = (
        (OURS, _draw_ours, sampling, nullcontext()),
        (PUBLISHED, _draw_published, as_published, half),
    )
    rates, drawn = [], []
    with torch.no_grad():
        aligned = student.text(text, keep)
    for name, draw, settings, around in ways:
        with around:
            once = partial(draw, student, aligned, side, batch, settings)
            seconds, memory = timed(lambda once=once: drawn.append(once()), 1, device)
        figures = (batch / seconds, work / seconds / 1e12, work / seconds / ceiling, memory)
        rates.append(Rate(name, *figures, difference=_difference(drawn[0], drawn[-1])))
    return rates


def bench_dpo(preset: str, size_px: int, pairs: int, steps: int, words: int = 64) -> list[Rate]:
    """Steps of DPO on random pairs: with a cached reference, with a live one, and as the published code might do it.

    The first two train alike. The published code has no DPO, so the last takes its habits: a live reference, recomputed
    blocks, and float32 on a CPU. Its head still runs on hidden tokens only.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    config, side = PRESETS[preset], size_px // 16
    winners = random_features(config, side, words, 2 * pairs)
    data = replace(winners, mean=torch.stack([winners.mean, -winners.mean], dim=1))
    law = fixed_share()
    estimator = PairErrorEstimator(COPIES, 0, law, draws=1)
    frozen = Student(config.model_copy(update={"grid": side})).init(0).to(device).requires_grad_(False)
    ceiling = matmul_ceiling(device)
    live, habits = LiveReference(frozen), LaunchConfig(recompute=True)
    rates = []
    for name, reference, precision, launch in (
        (
            "lightgen, cached reference",
            cache_reference(frozen, data, estimator, pairs).to(frozen.null_text.device),
            "auto",
            LaunchConfig(),
        ),
        ("live reference", live, "auto", LaunchConfig()),
        ("published code's habits", live, "fp32" if device == "cpu" else "auto", habits),
    ):
        objective = Preference(data, reference, estimator, pairs, beta=5000)
        seconds, memory = time_training(config, side, objective, precision, device, steps, launch)
        work = objective.flops(frozen) * pairs / seconds
        rates.append(Rate(name, pairs / seconds, work / 1e12, work / ceiling, memory))
    return rates


def time_training(
    config: StudentConfig,
    side: int,
    objective: Objective,
    precision: str,
    device: str,
    steps: int,
    launch: LaunchConfig,
) -> tuple[float, float]:
    """Seconds a step, loading included, and peak device memory in GB (0 on a CPU)."""
    loop = LoopConfig.model_validate({"steps": 10**9, "optimizer": {"lr": 1e-6}, "precision": precision})
    with kept_memory(device), deterministic_mode(loop.deterministic, loop.threads):
        trainer, loader = prepare_training(config, side, objective, loop, device, launch)
        with loader:
            return timed(partial(one_step, trainer, loader), steps, device)


def prepare_training(
    config: StudentConfig, side: int, objective: Objective, loop: LoopConfig, device: str, launch: LaunchConfig
) -> tuple[Trainer, Loader]:
    """A run before its first step, and what reads its batches."""
    student = Student(config.model_copy(update={"grid": side})).init(0).to(device)
    trainer, gpu = make_trainer(student, objective, loop, 0, World(), launch), device == "cuda"
    # A GPU would wait for a batch of random features to be copied longer than for one that is read ahead.
    return trainer, Loader(objective.features, objective.schedule(), trainer.split, WORKERS if gpu else 0, pin=gpu)


def one_step(trainer: Trainer, loader: Loader) -> float:
    """The next step, loading included; returns its loss."""
    return train_step(trainer, loader.at(trainer.state.step))


def fixed_share() -> MaskLaw:
    """A law under which every step hides HIDDEN of the tokens."""
    return MaskLaw(mean=HIDDEN, std=1e-6, low=HIDDEN - 1e-3, high=HIDDEN + 1e-3)


def random_features(config: StudentConfig, side: int, words: int, rows: int) -> FeaturesInMemory:
    """Normal numbers for a grid of `side` x `side` tokens and texts of `words`; the same at every call."""
    generator = torch.Generator().manual_seed(0)
    latent = (rows, config.latent_channels, side * config.patch, side * config.patch)
    text = torch.randn(rows * words, config.text_dim, generator=generator)
    start, mean = np.arange(rows) * words, torch.randn(latent, generator=generator).half()
    return FeaturesInMemory(torch.arange(rows), mean, None, text, start, np.full(rows, words))


@dataclass(frozen=True)
class Published(MaskedDiffusion):
    """The same loss, computed as the published code does."""

    half: bool = False

    def loss(self, student: Student, batch: Batch, microbatch: Microbatch) -> tuple[torch.Tensor, Metrics]:
        student.train()
        keys = batch.keys(self.seed)
        tokens, grid = as_tokens(student, batch.latents(keys))
        order = counter_rng.permutations(counter_rng.stream(keys, "order"), grid.tokens)
        hidden = self.masks.hidden(grid.tokens, self._mask_quantile(microbatch))
        with self._precision():
            text = student.text(batch.text, batch.keep)
            return self._head_everywhere(student, tokens, text, grid, order[:, hidden:], order[:, :hidden]), {}

    def untrained(self, student: Student) -> list[torch.nn.Parameter]:
        return unread_parameters(student, drops_captions=False)

    def _precision(self) -> AbstractContextManager:
        return torch.autocast("cuda", torch.float16) if self.half else torch.autocast("cpu", enabled=False)

    def _head_everywhere(
        self,
        student: Student,
        tokens: torch.Tensor,
        text: Text,
        grid: Grid,
        visible: torch.Tensor,
        masked: torch.Tensor,
    ) -> torch.Tensor:
        """The loss of hidden tokens, with a head that runs on all tokens and a trunk that runs twice."""

        def trunk(values: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
            encoded = student.encode(values, visible, grid)
            return student.conditions(encoded, visible, grid, Text(words, text.keep))[0]

        z: torch.Tensor = checkpoint(trunk, tokens, text.tokens, use_reentrant=False)  # type: ignore[assignment]
        rows = self.copies * tokens.shape[0] * tokens.shape[1]
        times = torch.randint(0, 1000, (rows,), device=tokens.device)
        noise = torch.randn(rows, tokens.shape[2], device=tokens.device)
        x0 = tokens.flatten(0, 1).repeat(self.copies, 1)
        xt = add_noise(x0, times, noise)
        output = student.head(xt, times, student.head.condition(z.flatten(0, 1)).repeat(self.copies, 1))
        kind = student.config.prediction
        error = prediction_error(kind, output, x0, noise, times)
        if self.bound:
            error = error + variance_bound(as_noise(kind, output, xt, times), x0, xt, times)
        hidden = torch.zeros(tokens.shape[:2], device=tokens.device).scatter_(1, masked, 1.0)
        weight = hidden.flatten().repeat(self.copies)
        return (error * weight).sum() / weight.sum()


def _draw_ours(student: Student, text: Text, side: int, batch: int, config: SampleConfig) -> torch.Tensor:
    return sample_latents(student, text, Grid(side, side), list(range(batch)), config)


def _draw_published(student: Student, text: Text, side: int, batch: int, config: SampleConfig) -> torch.Tensor:
    """Sample with a twin that has the student's weights and shares no work between passes."""
    with torch.device("meta"):
        twin = _SharesNothing(student.config)
    twin.load_state_dict(student.state_dict(), assign=True)
    return _draw_ours(twin, text, side, batch, config)


class _SharesNothing(Student):
    """Computes encoder, decoder and text blocks again for each half of guidance and each iteration."""

    def read(self, text: Text) -> Text:
        return text

    def encode(self, tokens: torch.Tensor, visible: torch.Tensor, grid: Grid) -> torch.Tensor:
        return tokens  # encoded below, for each text

    def conditions(self, encoded: torch.Tensor, visible: torch.Tensor, grid: Grid, *texts: Text) -> list[torch.Tensor]:
        whole = super()
        return [whole.conditions(whole.encode(encoded, visible, grid), visible, grid, text)[0] for text in texts]


def _lively_student(preset: str, size_px: int) -> Student:
    """A fresh student whose samples depend on text and trunk: layers of the head that start at zero get noise.

    It predicts tokens in place of noise, because an untrained head then samples numbers of ordinary size. The cost is
    the same.
    """
    config = PRESETS[preset].model_copy(update={"grid": size_px // 16, "prediction": "sample"})
    student = Student(config).init(0).eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in student.head.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=config.init_std, generator=generator)
    return student


def _difference(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """The largest difference of a number, in standard deviations. Asserts that images are the same up to rounding."""
    gap = (ours - theirs).float() / ours.float().std()
    error = float(gap.square().mean().sqrt())
    assert error <= TOLERANCE, f"both ways must draw the same images, not {error:.2g} standard deviations apart"
    return float(gap.abs().max())
