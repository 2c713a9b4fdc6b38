"""Which tokens are hidden: the training law, random orders, and gather/scatter of visible tokens."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.stats import truncnorm
from torch import Tensor

RATIO_MEAN, RATIO_STD, RATIO_LOW, RATIO_HIGH = 1.0, 0.25, 0.7, 1.0


def mask_ratio(uniform: float) -> float:
    """Share of tokens to hide: Normal(1, 0.25) cut to [0.7, 1], at the quantile `uniform` (model_facts 1.6)."""
    low, high = (RATIO_LOW - RATIO_MEAN) / RATIO_STD, (RATIO_HIGH - RATIO_MEAN) / RATIO_STD
    return float(truncnorm.ppf(uniform, low, high, loc=RATIO_MEAN, scale=RATIO_STD))


def masked_count(tokens: int, ratio: float) -> int:
    """Tokens hidden of `tokens` at `ratio`, rounded up."""
    return math.ceil(tokens * ratio)


def random_orders(batch: int, tokens: int, generator: torch.Generator) -> Int[Tensor, "b n"]:
    """One random permutation of the tokens for each image."""
    return torch.rand(batch, tokens, generator=generator).argsort(dim=1)


def gather_tokens(tokens: Float[Tensor, "b n d"], index: Int[Tensor, "b k"]) -> Float[Tensor, "b k d"]:
    """tokens[b, index[b, k]]."""
    return tokens.gather(1, index.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))


def scatter_tokens(
    base: Float[Tensor, "b n d"], index: Int[Tensor, "b k"], values: Float[Tensor, "b k d"]
) -> Float[Tensor, "b n d"]:
    """A copy of `base` with base[b, index[b, k]] = values[b, k]."""
    return base.scatter(1, index.unsqueeze(-1).expand(-1, -1, base.shape[-1]), values.to(base.dtype))


def decode_counts(masked: int, iterations: int) -> Sequence[int]:
    """Tokens to sample in each iteration, cosine schedule (model_facts 4.2); their sum is `masked`.

    There are at most `masked` iterations: every one samples at least one token.
    """
    counts, left = [], masked
    for step in range(iterations):
        if left == 0:
            break
        keep = int(np.floor(masked * np.cos(math.pi / 2 * (step + 1) / iterations)))
        keep = 0 if step == iterations - 1 else max(1, min(keep, left - 1))
        keep = min(keep, left - 1)
        counts.append(left - keep)
        left = keep
    return counts


def patchify(latents: Float[Tensor, "b c h w"], patch: int) -> Float[Tensor, "b n d"]:
    """Row-major tokens; inside a token the order is (channel, row, column)."""
    batch, channels, height, width = latents.shape
    blocks = latents.reshape(batch, channels, height // patch, patch, width // patch, patch)
    return blocks.permute(0, 2, 4, 1, 3, 5).reshape(batch, (height // patch) * (width // patch), -1)


def unpatchify(tokens: Float[Tensor, "b n d"], patch: int, rows: int, columns: int) -> Float[Tensor, "b c h w"]:
    """The inverse of `patchify` for a grid of rows x columns tokens."""
    blocks = tokens.unflatten(1, (rows, columns)).unflatten(-1, (-1, patch, patch))
    return blocks.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)
