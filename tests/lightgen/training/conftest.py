"""A tiny student and features in memory, for every training test."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from lightgen.model.config import StudentConfig
from lightgen.model.student import Student
from lightgen.training.data import FeatureSet

CONFIG = StudentConfig(
    width=16, heads=2, encoder_depth=1, decoder_depth=1, text_depth=0, aligner_depth=1, head_width=16, head_depth=1,
    text_dim=6, text="interleaved", text_positions=4, latent_channels=3, grid=3, dropout=0.1,
)  # fmt: skip


def _make_features(rows: int = 24, seed: int = 0) -> FeatureSet:
    generator = torch.Generator().manual_seed(seed)
    count = np.array([1 + row % 4 for row in range(rows)])
    start = np.concatenate([[0], np.cumsum(count)[:-1]])
    mean = torch.randn(rows, 3, 6, 6, generator=generator).half()
    return FeatureSet(mean, None, torch.randn(int(count.sum()), 6, generator=generator), start, count)


@pytest.fixture
def make_features() -> Callable[..., FeatureSet]:
    return _make_features


@pytest.fixture
def features() -> FeatureSet:
    return _make_features()


@pytest.fixture
def student() -> Student:
    student = Student(CONFIG).init(5)
    for parameter in student.head.parameters():  # the head starts at zero: no gradient would reach the trunk
        torch.nn.init.normal_(parameter, std=0.2, generator=torch.Generator().manual_seed(parameter.numel()))
    return student
