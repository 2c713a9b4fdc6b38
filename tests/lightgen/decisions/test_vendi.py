"""The Vendi score against its n x n definition."""

import numpy as np
import pytest

from lightgen.decisions.vendi import vendi_score


@pytest.mark.parametrize("n", [5, 300])
def test_vendi_score_is_its_definition(n: int) -> None:
    x = np.random.default_rng(0).normal(size=(n, 40))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    kernel = np.linalg.eigvalsh(x @ x.T / n)
    kernel = kernel[kernel > 1e-15]
    assert vendi_score(x) == pytest.approx(np.exp(-(kernel * np.log(kernel)).sum()), rel=1e-8)


def test_vendi_score_counts_what_is_distinct() -> None:
    assert vendi_score(np.eye(7)) == pytest.approx(7, rel=1e-12)
    assert vendi_score(np.repeat(np.eye(7)[:3], 5, axis=0)) == pytest.approx(3, rel=1e-12)
    assert vendi_score(np.zeros((0, 4))) == 0
