"""How fast the student trains and draws, beside the way of the published code, in the same run.

MFU is model FLOP/s over a ceiling measured here: products of square matrices in bfloat16, or float32 if that is faster.
The baseline has the published code's habits: the head on all tokens, every block recomputed in the backward pass, plain
AdamW and float32 products on a CPU, float16 on a GPU; and for drawing, one pass of the trunk for each half of guidance.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.checkpoint import checkpoint

from lightgen.model.config import PRESETS, StudentConfig
from lightgen.model.diffusion import add_noise, as_noise, prediction_error, variance_bound
from lightgen.model.flops import time_flops, train_flops
from lightgen.model.masking import MaskLaw, masked_count
from lightgen.model.sampling import SampleConfig, sample_latents
from lightgen.model.student import Grid, Student, Text
from lightgen.training.data import FeatureSet, rows_of_step, step_generator
from lightgen.training.loop import LoopConfig, Run, mixed_precision, train_step
from lightgen.training.objectives import Draw, MaskedDiffusion, as_tokens, draw_step
from lightgen.training.optimizer import OptimizerConfig, make_optimizers

HIDDEN = 0.85  # every step of a benchmark hides this share, so that steps cost the same; the paper's mean is 0.867
COPIES = 4


@dataclass(frozen=True)
class Rate:
    """One way of doing it."""

    name: str
    images_per_s: float
    tflops: float
    mfu: float
    memory_gb: float


def bench_train(preset: str, size_px: int, batch: int, steps: int, words: int = 64) -> list[Rate]:
    """Ours, then the baseline: training steps on random features, head, optimizer and EMA included."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    config, side = PRESETS[preset], size_px // 16
    features = _random_features(config, side, words, 4 * batch)
    ceiling = matmul_ceiling(device)
    law = MaskLaw(mean=HIDDEN, std=1e-6, low=HIDDEN - 1e-3, high=HIDDEN + 1e-3)
    hidden = masked_count(side * side, HIDDEN)
    work = train_flops(config, side * side, hidden, words, COPIES * hidden) * batch
    work += 3 * time_flops(config, COPIES * hidden * batch)
    ours = MaskedDiffusion(features, batch, COPIES, 0, masks=law)
    theirs = _Published(features, batch, law, "cuda" if device == "cuda" else "cpu")
    rates = []
    for name, objective, precision in (("lightgen", ours, "auto"), ("published code's way", theirs, "fp32")):
        seconds, memory = _time_training(config, side, objective, precision, device, steps)
        rates.append(Rate(name, batch / seconds, work / seconds / 1e12, work / seconds / ceiling, memory))
    return rates


def bench_sample(
    preset: str, size_px: int, batch: int, iterations: int, head_steps: int, words: int = 64
) -> list[Rate]:
    """Ours, then the baseline: whole images drawn under guidance. FLOPs are not counted (0)."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    config, side = PRESETS[preset], size_px // 16
    student = Student(config.model_copy(update={"grid": side})).init(0).to(device).eval()
    text = torch.randn(batch, words, config.text_dim, device=device)
    keep = torch.ones(batch, words, dtype=torch.bool, device=device)
    sampling = SampleConfig(iterations=iterations, guidance=4.0, head_steps=head_steps)
    rates = []
    for name, joined, precision in (("lightgen", True, "auto"), ("published code's way", False, "fp32")):
        with torch.no_grad(), mixed_precision(precision, device):
            aligned = student.text(text, keep)
            work = _draw_ours if joined else _draw_published
            seconds, memory = _timed(lambda work=work, a=aligned: work(student, a, side, batch, sampling), 1, device)
        rates.append(Rate(name, batch / seconds, 0.0, 0.0, memory))
    return rates


def matmul_ceiling(device: str) -> float:
    """FLOP/s of the faster of bfloat16 and float32 products of square matrices on this machine."""
    n = 8192 if device == "cuda" else 1024
    rates = []
    for kind in (torch.bfloat16, torch.float32):
        a, b = (torch.randn(n, n, device=device, dtype=kind) for _ in range(2))
        seconds, _ = _timed(lambda a=a, b=b: a @ b, 20, device)
        rates.append(2 * n**3 / seconds)
    return max(rates)


def _time_training(
    config: StudentConfig, side: int, objective: object, precision: str, device: str, steps: int
) -> tuple[float, float]:
    student = Student(config.model_copy(update={"grid": side})).init(0).to(device)
    average = Student(student.config).to(device).requires_grad_(False)
    average.load_state_dict(student.state_dict())
    loop = LoopConfig(steps=10**9, optimizer=OptimizerConfig(lr=1e-6), precision=precision)  # type: ignore[arg-type]
    run = Run(student, average, make_optimizers(student, loop.optimizer))
    return _timed(lambda: train_step(run, objective, loop, 0), steps, device)  # type: ignore[arg-type]


def _timed(work: Callable[[], object], repeats: int, device: str) -> tuple[float, float]:
    """Seconds a call after one to warm up, and the peak of the device's memory in GB (0 on a CPU)."""
    work()
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
    for _ in range(repeats):
        work()
    if device == "cuda":
        torch.cuda.synchronize()
    seconds = (time.perf_counter() - began) / repeats
    return seconds, torch.cuda.max_memory_allocated() / 1e9 if device == "cuda" else 0.0


def _random_features(config: StudentConfig, side: int, words: int, rows: int) -> FeatureSet:
    generator = torch.Generator().manual_seed(0)
    latent = (rows, config.latent_channels, side * config.patch, side * config.patch)
    text = torch.randn(rows * words, config.text_dim, generator=generator)
    start = np.arange(rows) * words
    return FeatureSet(torch.randn(latent, generator=generator).half(), None, text, start, np.full(rows, words))


@dataclass(frozen=True)
class _Published:
    """The objective with the published code's habits."""

    features: FeatureSet
    batch_size: int
    masks: MaskLaw
    device: str

    def loss(self, student: Student, step: int) -> tuple[torch.Tensor, dict[str, float]]:
        student.train()
        generator = step_generator(0, step, "masked-diffusion")
        rows = rows_of_step(0, step, len(self.features), self.batch_size)
        batch = self.features.batch(rows, generator).to(student.null_text.device)
        tokens, grid = as_tokens(student, batch)
        draw = draw_step(tokens.shape, self.masks, COPIES, generator)
        with self._precision():
            text = student.text(batch.text, batch.keep)
            return self._head_everywhere(student, tokens, text, grid, draw, generator), {}

    def _precision(self) -> AbstractContextManager:
        return torch.autocast("cuda", torch.float16) if self.device == "cuda" else torch.autocast("cpu", enabled=False)

    @staticmethod
    def _head_everywhere(
        student: Student, tokens: torch.Tensor, text: Text, grid: Grid, draw: Draw, generator: torch.Generator
    ) -> torch.Tensor:
        """The loss of hidden tokens, from a head that is run on all of them and a trunk that is run twice."""
        visible = draw.visible.to(tokens.device)

        def trunk(values: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
            encoded = student.encode(values, visible, grid)
            return student.conditions(encoded, visible, grid, Text(words, text.keep))[0]

        z: torch.Tensor = checkpoint(trunk, tokens, text.tokens, use_reentrant=False)  # type: ignore[assignment]
        rows = COPIES * tokens.shape[0] * tokens.shape[1]
        times = torch.randint(0, 1000, (rows,), generator=generator).to(tokens.device)
        noise = torch.randn(rows, tokens.shape[2], generator=generator).to(tokens.device)
        x0 = tokens.flatten(0, 1).repeat(COPIES, 1)
        xt = add_noise(x0, times, noise)
        output = student.head(xt, times, student.head.condition(z.flatten(0, 1)).repeat(COPIES, 1))
        kind = student.config.prediction
        error = prediction_error(kind, output, x0, noise, times)
        error = error + variance_bound(as_noise(kind, output, xt, times), x0, xt, times)
        hidden = torch.zeros(tokens.shape[:2], device=tokens.device).scatter_(1, draw.masked.to(tokens.device), 1.0)
        weight = hidden.flatten().repeat(COPIES)
        return (error * weight).sum() / weight.sum()


def _draw_ours(student: Student, text: Text, side: int, batch: int, config: SampleConfig) -> torch.Tensor:
    return sample_latents(student, text, Grid(side, side), list(range(batch)), config)


def _draw_published(student: Student, text: Text, side: int, batch: int, config: SampleConfig) -> torch.Tensor:
    """Encoder, decoder and text blocks once for each half of guidance: conditions are asked one text at a time."""
    real = student.conditions

    def one_by_one(encoded: torch.Tensor, visible: torch.Tensor, grid: Grid, *texts: Text) -> list[torch.Tensor]:
        return [real(encoded, visible, grid, each)[0] for each in texts]

    student.conditions = one_by_one  # type: ignore[method-assign]
    try:
        return _draw_ours(student, text, side, batch, config)
    finally:
        del student.conditions
