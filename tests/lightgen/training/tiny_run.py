"""A tiny student's sizes and features in memory, also for processes that pytest did not start."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from lightgen.model.config import StudentConfig
from lightgen.model.student import Student
from lightgen.training.data import FeaturesInMemory

CONFIG = StudentConfig(
    width=16, heads=2, encoder_depth=1, decoder_depth=1, text_depth=0, aligner_depth=1, head_width=16, head_depth=1,
    text_dim=6, text="interleaved", text_positions=4, latent_channels=3, grid=3, dropout=0.1,
)  # fmt: skip


def tiny_features(rows: int = 24, seed: int = 0) -> FeaturesInMemory:
    """Random latents, texts of one to four words."""
    generator = torch.Generator().manual_seed(seed)
    count = np.array([1 + row % 4 for row in range(rows)])
    start = np.concatenate([[0], np.cumsum(count)[:-1]])
    mean = torch.randn(rows, 3, 6, 6, generator=generator).half()
    ids = torch.arange(rows) * 7 + 1
    return FeaturesInMemory(ids, mean, None, torch.randn(int(count.sum()), 6, generator=generator), start, count)


def tiny_pairs(rows: int = 12) -> FeaturesInMemory:
    """Winners and losers of the same captions."""
    winners, losers = tiny_features(rows, 1), tiny_features(rows, 2)
    return replace(winners, mean=torch.stack([winners.mean, losers.mean], dim=1))


def tiny_student(dropout: float = 0.1, **sizes: Any) -> Student:
    """Fresh weights whose head does not start at zero, for no gradient would reach the trunk."""
    student = Student(CONFIG.model_copy(update={"dropout": dropout, **sizes})).init(5)
    for parameter in student.head.parameters():
        torch.nn.init.normal_(parameter, std=0.2, generator=torch.Generator().manual_seed(parameter.numel()))
    return student
