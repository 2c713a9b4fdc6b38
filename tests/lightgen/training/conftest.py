"""A tiny student and features in memory, for every training test, and ranks that last the session."""

from collections.abc import Iterator

import pytest

from lightgen.model.student import Student
from lightgen.training.data import FeaturesInMemory
from lightgen.training.objectives import MaskedDiffusion
from tests.lightgen.training.rank_pool import RankPool
from tests.lightgen.training.tiny_run import tiny_features, tiny_pairs, tiny_student


@pytest.fixture
def pairs() -> FeaturesInMemory:
    return tiny_pairs()


@pytest.fixture
def features() -> FeaturesInMemory:
    return tiny_features()


@pytest.fixture
def student() -> Student:
    return tiny_student()


@pytest.fixture
def objective(features: FeaturesInMemory) -> MaskedDiffusion:
    return MaskedDiffusion(features, batch_size=5, copies=2, seed=11)


@pytest.fixture
def fresh(student: Student) -> Student:
    return Student(student.config).init(5)


@pytest.fixture(scope="session")
def rank_pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RankPool]:
    """Four processes; tests that use them belong to the xdist group `ranks`."""
    with RankPool(4, tmp_path_factory.mktemp("ranks")) as pool:
        yield pool
