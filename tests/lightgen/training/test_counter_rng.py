"""Counter-based random numbers: the published generator, the right laws, and independence of batch and order."""

import numpy as np
import pytest
import torch
from scipy import stats

from lightgen.training import counter_rng

MASK = (1 << 64) - 1


def _splitmix64(state: int) -> int:
    """The reference implementation, in Python's own integers."""
    z = state & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


@pytest.fixture
def keys() -> counter_rng.Keys:
    return counter_rng.sample_keys(torch.arange(3000), torch.zeros(3000, dtype=torch.long), 0)


def test_bits_equal_splitmix64() -> None:
    key = 0xDEADBEEF12345678
    drawn = counter_rng.bits(torch.tensor([key - (1 << 64)]), 5)[0].tolist()
    assert [number & MASK for number in drawn] == [_splitmix64(key + i * 0x9E3779B97F4A7C15) for i in range(1, 6)]


def test_seed_1234567_gives_the_published_sequence() -> None:
    """First outputs of splitmix64 for this seed, as printed in the test vectors of several independent libraries."""
    drawn = [number & MASK for number in counter_rng.bits(torch.tensor([1234567]), 3)[0].tolist()]
    assert drawn == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_normals_and_uniforms_follow_their_laws(keys: counter_rng.Keys) -> None:
    for sample, law in ((counter_rng.normal(keys, 101), "norm"), (counter_rng.uniform(keys, 101), "uniform")):
        assert bool(sample.isfinite().all())
        assert stats.kstest(sample.flatten().double().numpy()[:200_000], law).pvalue > 1e-3
        # Neither neighbours in a row nor rows of neighbouring samples go together.
        assert abs(np.corrcoef(sample[:, 0], sample[:, 1])[0, 1]) < 0.06
        assert abs(np.corrcoef(sample[0], sample[1])[0, 1]) < 0.35
        assert abs(np.corrcoef(sample[:-1].flatten(), sample[1:].flatten())[0, 1]) < 0.01
    drawn = counter_rng.uniform(keys, 101)
    assert 0 < float(drawn.min()) < float(drawn.max()) < 1


def test_integers_and_permutations_are_fair(keys: counter_rng.Keys) -> None:
    drawn = counter_rng.integers(keys, 40, 7)
    assert stats.chisquare(torch.bincount(drawn.flatten()).numpy()).pvalue > 1e-3
    orders = counter_rng.permutations(keys, 5)
    assert torch.equal(orders.sort(dim=1).values, torch.arange(5).expand(3000, 5))
    code = (orders * torch.tensor([625, 125, 25, 5, 1])).sum(1)
    counts = torch.unique(code, return_counts=True)[1]
    assert len(counts) == 120
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3


def test_streams_epochs_and_seeds_are_independent_and_batches_do_not_matter(keys: counter_rng.Keys) -> None:
    zero = torch.zeros(3000, dtype=torch.long)
    others = [
        counter_rng.stream(keys, "other"),
        counter_rng.sample_keys(torch.arange(3000), zero + 1, 0),
        counter_rng.sample_keys(torch.arange(3000), zero, 1),
    ]
    base = counter_rng.normal(keys, 64).flatten()
    for other in others:
        assert abs(np.corrcoef(base, counter_rng.normal(other, 64).flatten())[0, 1]) < 0.01
    assert torch.equal(counter_rng.normal(keys[[8, 3]], 64), counter_rng.normal(keys, 64)[[8, 3]])
    assert torch.equal(counter_rng.normal(keys[:2], 63), counter_rng.normal(keys[:2], 63))
