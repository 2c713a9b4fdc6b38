"""The tiny student and features of the training tests, measured here."""

from tests.lightgen.training.conftest import features, pairs, student

__all__ = ["features", "pairs", "student"]
