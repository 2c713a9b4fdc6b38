"""Features in 8 bits: what comes back is near, equal to plain arithmetic, and refused where it is not near enough."""

import json

import numpy as np
import pytest
import torch

from lightgen.errors import ConfigError
from lightgen.storage.quantised import (
    HEAD,
    Damage,
    bits_of,
    group_of,
    quantised_std,
    quantised_text,
    read_std,
    read_text,
    std_bytes,
    text_bytes,
)


def text_of(tokens: int, dim: int, outliers: bool = False) -> torch.Tensor:
    values = torch.randn(tokens, dim, generator=torch.Generator().manual_seed(tokens))
    if outliers:
        values[:, :: dim // 4] *= 100  # as T5 has them: a few channels, the same for every token
    return values.bfloat16()


def restored(text: torch.Tensor) -> torch.Tensor:
    into = torch.full(text.shape, 7.0, dtype=text.dtype)
    read_text(quantised_text(text), bits_of(into), text.dtype)
    return into


def relative(wanted: torch.Tensor, found: torch.Tensor) -> float:
    return float((wanted.double() - found.double()).norm() / wanted.double().norm())


@pytest.mark.parametrize("dim", [4096, 128, 96, 6])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_text_comes_back_within_a_percent_in_half_the_bytes(dim: int, dtype: torch.dtype) -> None:
    text = text_of(5, dim).to(dtype)
    assert len(quantised_text(text)) == 5 * text_bytes(dim) == 5 * (dim + 2 * dim // group_of(dim))
    assert relative(text, restored(text)) < 0.01


def test_a_text_is_codes_times_scales_rounded_to_the_nearest_even() -> None:
    """The fast loop against numbers of arbitrary precision, cut where bfloat16 cuts."""
    text = text_of(3, 128, outliers=True)
    raw = quantised_text(text)
    codes = raw[: 3 * 128].view(np.int8).astype(np.float64).reshape(-1, 64)
    scales = torch.from_numpy(raw[3 * 128 :].copy()).view(torch.bfloat16).double().numpy()
    expected = torch.from_numpy(codes * scales[:, None]).float().bfloat16().view(3, 128)
    assert torch.equal(restored(text), expected)


def test_one_scale_a_group_bears_outlier_channels_that_one_scale_a_token_does_not() -> None:
    text = text_of(39, 4096, outliers=True).float()
    scale = text.abs().amax(1, keepdim=True) / 127
    ours, theirs = restored(text.bfloat16()).float(), (text / scale).round() * scale
    plain = text.abs() < 10
    assert relative(text[plain], ours[plain]) < 0.2 * relative(text[plain], theirs[plain])


def test_no_tokens_and_zeros() -> None:
    assert restored(torch.zeros(0, 6, dtype=torch.bfloat16)).shape == (0, 6)
    assert not restored(torch.zeros(3, 128, dtype=torch.bfloat16)).any()


def stds(rows: int = 3) -> torch.Tensor:
    """Of channels that differ a hundredfold, with a zero, a channel of zeros, and one of a single value."""
    values = torch.exp(torch.randn(rows, 4, 6, 5, generator=torch.Generator().manual_seed(1)) / 2 - 4)
    values[:, 1] *= 100
    values[:, 2], values[:, 3], values[0, 0, 0, 0] = 0, 0.25, 0
    return values.half()


def test_deviations_come_back_within_two_percent_each_and_zero_stays_zero() -> None:
    wanted, raw = stds(), quantised_std(stds())
    assert raw.shape == (3, std_bytes((4, 6, 5))) == (3, 4 * (HEAD + 30))
    found = np.full((3, 4, 30), 7, np.float16)
    for row in range(3):
        read_std(raw[row], found[row])
    plain = wanted.numpy().reshape(3, 4, 30)
    assert np.array_equal(found == 0, plain == 0)
    there = plain > 0
    assert np.abs(found[there].astype(float) / plain[there].astype(float) - 1).max() < 0.02
    assert np.abs(found[:, 3] - 0.25).max() < 1e-4


def test_what_codes_of_deviations_mean_is_plain_arithmetic() -> None:
    raw = quantised_std(stds())
    head, codes = raw[0, : 4 * HEAD].view("<f4").reshape(4, 2).astype(float), raw[0, 4 * HEAD :].reshape(4, 30)
    powers = head[:, :1] * head[:, 1:] ** (codes.astype(float) - 1)
    expected = np.where(codes > 0, powers, 0)
    found = np.zeros((4, 30), np.float16)
    read_std(raw[0], found)
    np.testing.assert_allclose(found.astype(float), expected, rtol=6e-4)


def test_pairs_have_codes_for_each_channel_of_either_side_and_no_rows_are_no_bytes() -> None:
    both = torch.stack([stds(), stds() * 4], 1)
    assert quantised_std(both).shape == (3, std_bytes((2, 4, 6, 5)))
    assert quantised_std(both[:0]).shape == (0, std_bytes((2, 4, 6, 5)))


def test_damage_is_told_and_refused_past_its_bound() -> None:
    wanted = torch.tensor([[3.0, 4.0], [0.0, 5.0]])
    damage = Damage()
    damage.add(wanted, torch.tensor([[3.0, 4.0], [0.5, 5.0]]))
    assert damage.relative == pytest.approx(0.5 / 50**0.5)
    told = json.loads(damage.report())
    assert told["relative_l2"] == damage.relative
    assert told["vectors"] == 2
    assert told["cosine"]["0.0"] == pytest.approx(5 / 25.25**0.5)
    damage.check(0.08, "texts", "codec: plain")
    with pytest.raises(ConfigError, match=r"texts would be stored 7.07% wrong .*, max_error allows 7.00%; take codec"):
        damage.check(0.07, "texts", "codec: plain")
