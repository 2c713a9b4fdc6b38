"""A tiny student and features in memory, for every training test."""

import pytest

from lightgen.model.student import Student
from lightgen.training.data import FeatureSet
from tests.lightgen.training.tiny_run import tiny_features, tiny_pairs, tiny_student


@pytest.fixture
def pairs() -> FeatureSet:
    return tiny_pairs()


@pytest.fixture
def features() -> FeatureSet:
    return tiny_features()


@pytest.fixture
def student() -> Student:
    return tiny_student()
