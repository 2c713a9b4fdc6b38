"""Hashed terms: unit vectors, near where captions share words."""

import numpy as np

from lightgen.decisions.embed import hashed_terms
from lightgen.decisions.far_apart import Rarity, terms_of
from lightgen.decisions.shingles import read_words


def test_like_texts_lie_together() -> None:
    terms = terms_of(read_words(["a red bird sings", "a red bird sleeps", "two green boats", ""]))
    x = hashed_terms(terms, Rarity.of(terms), 512)
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), [1, 1, 1, 0], rtol=1e-6)
    assert x[0] @ x[1] > 0.3 > 0.1 > abs(x[0] @ x[2])
