"""Masks, orders, gathering, patches: against naive loops."""

import numpy as np
import pytest
import torch
from scipy.stats import truncnorm

from lightgen.model.masking import (
    MaskLaw,
    decode_counts,
    gather_tokens,
    masked_count,
    patchify,
    scatter_tokens,
    unpatchify,
)


def test_mask_ratio_follows_the_truncated_normal() -> None:
    ratios = np.array([MaskLaw().ratio(u) for u in (np.arange(2000) + 0.5) / 2000])
    assert ratios.min() >= 0.7
    assert ratios.max() <= 1.0
    # By rejection, without scipy: Normal(1, 0.25) kept inside [0.7, 1].
    draws = np.random.default_rng(0).normal(1, 0.25, 400_000)
    draws = draws[(draws >= 0.7) & (draws <= 1)]
    assert ratios.mean() == pytest.approx(draws.mean(), abs=0.002)
    assert ratios.std() == pytest.approx(draws.std(), abs=0.002)
    counts = np.array([masked_count(256, ratio) for ratio in ratios])
    assert (256 - counts).mean() == pytest.approx(33.6, abs=0.5)  # model_facts 1.6
    assert ratios.mean() == pytest.approx(0.867, abs=0.001)


@pytest.mark.parametrize(
    ("mean", "std", "low", "high"), [(1.0, 0.25, 0.7, 1.0), (1.0, 0.5, 0.05, 1.0), (0.0, 1e-3, 0.0, 0.9)]
)
def test_quantiles_are_scipys(mean: float, std: float, low: float, high: float) -> None:
    law, shares = MaskLaw(mean=mean, std=std, low=low, high=high), np.linspace(0.001, 0.999, 97)
    theirs = truncnorm.ppf(shares, (low - mean) / std, (high - mean) / std, loc=mean, scale=std)
    np.testing.assert_allclose([law.ratio(share) for share in shares], theirs, rtol=1e-9, atol=1e-9)
    assert MaskLaw(mean=1.0, std=1e-6, low=0.5, high=0.6).ratio(0.5) in (
        0.5,
        0.6,
    )  # all of it in a tail too far to tell


def test_visible_lengths_come_in_few_sizes_and_keep_their_mean() -> None:
    law = MaskLaw(visible_multiple=8)
    shares = (np.arange(2000) + 0.5) / 2000
    visible = np.array([256 - law.hidden(256, share) for share in shares])
    assert set(visible) == set(range(0, 81, 8))
    exact = np.array([256 - MaskLaw().hidden(256, share) for share in shares])
    assert set(visible[exact == 0]) == {0}
    assert abs(visible - exact)[exact >= 4].max() <= 4
    # Of all images 1.6 % are hidden whole. Rounding to the nearest would make it 8 %.
    assert (visible == 0).mean() == (exact == 0).mean() == pytest.approx(0.016, abs=0.002)
    assert (8 * np.round(exact / 8) == 0).mean() == pytest.approx(0.08, abs=0.01)
    assert visible.mean() == pytest.approx(exact.mean(), abs=0.5)
    assert MaskLaw(low=0.0, mean=0.0, std=1e-3, visible_multiple=8).hidden(7, 0.5) >= 1  # the loss needs a token


def test_gather_and_scatter_equal_loops() -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(2, 5, 3, generator=generator)
    orders = torch.rand(2, 5, generator=generator).argsort(dim=1)
    index = orders[:, :2]
    taken = gather_tokens(tokens, index)
    put = scatter_tokens(torch.zeros_like(tokens), index, taken)
    for b in range(2):
        for k in range(2):
            assert torch.equal(taken[b, k], tokens[b, index[b, k]])
        for n in range(5):
            expected = tokens[b, n] if n in index[b] else torch.zeros(3)
            assert torch.equal(put[b, n], expected)


@pytest.mark.parametrize(
    ("tokens", "iterations"), [(256, 64), (1024, 64), (4096, 64), (16, 16), (16, 64), (7, 3), (1, 5)]
)
def test_decode_counts_sum_to_the_masked_tokens(tokens: int, iterations: int) -> None:
    counts = decode_counts(tokens, iterations)
    assert sum(counts) == tokens
    assert min(counts) >= 1
    assert len(counts) <= iterations


def test_decode_counts_are_the_papers() -> None:
    assert decode_counts(256, 64)[:4] == [1, 1, 1, 1]
    assert max(decode_counts(256, 64)) == 7
    assert decode_counts(1024, 64)[:6] == [1, 1, 1, 2, 3, 4]
    assert decode_counts(1024, 64)[-2:] == [25, 25]
    assert max(decode_counts(4096, 64)) == 101


def test_patches_are_channel_row_column_in_row_major_order() -> None:
    latents = torch.arange(2 * 3 * 4 * 6, dtype=torch.float32).reshape(2, 3, 4, 6)
    tokens = patchify(latents, 2)
    assert tokens.shape == (2, 6, 12)
    for row in range(2):
        for column in range(3):
            block = latents[1, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            assert torch.equal(tokens[1, 3 * row + column], block.flatten())
    assert torch.equal(unpatchify(tokens, 2, 2, 3), latents)


def test_a_range_that_holds_nothing_is_refused() -> None:
    """Its quantiles would be shares below `low`."""
    with pytest.raises(ValueError, match=r"low 0\.9 is above high 0\.8"):
        MaskLaw(low=0.9, high=0.8)
    assert MaskLaw(low=0.8, high=0.8).ratio(0.5) == 0.8
