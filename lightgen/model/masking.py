"""Which tokens are hidden: the training law, random orders, and gather/scatter of visible tokens."""

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Self

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor

from lightgen.config import Config


class MaskLaw(Config):
    """Share of hidden tokens: a normal distribution cut to [low, high]; the defaults are MAR's (model_facts 1.6)."""

    mean: float = Field(default=1.0, description="of the normal law")
    std: float = Field(default=0.25, gt=0, description="of the normal law")
    low: float = Field(default=0.7, ge=0, lt=1, description="least share")
    high: float = Field(default=1.0, gt=0, le=1, description="largest share")
    visible_multiple: int = Field(
        default=1,
        ge=1,
        description="round the number of visible tokens to multiples of this, never to none: few lengths to compile",
    )

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low {self.low:g} is above high {self.high:g}; no share lies between them")
        return self

    def ratio(self, uniform: float) -> float:
        """The law's quantile at `uniform`."""
        law = NormalDist(self.mean, self.std)
        below, above = law.cdf(self.low), law.cdf(self.high)
        inside = below + uniform * (above - below)
        if not 0 < inside < 1:  # a tail so far that it rounds to nothing
            return self.high if inside else self.low
        return min(self.high, max(self.low, law.inv_cdf(inside)))

    def hidden(self, tokens: int, uniform: float) -> int:
        """Tokens hidden of `tokens` at the law's quantile `uniform`."""
        visible = tokens - masked_count(tokens, self.ratio(uniform))
        # Rounding a few visible tokens to none would make wholly hidden images, the hardest, five times as frequent.
        steps = max(1, round(visible / self.visible_multiple)) if visible else 0
        return tokens - min(self.visible_multiple * steps, tokens - 1)


def masked_count(tokens: int, ratio: float) -> int:
    """Tokens hidden of `tokens` at `ratio`, rounded up; at least one, for the loss needs a token."""
    return max(1, math.ceil(tokens * ratio))


def gather_tokens(tokens: Float[Tensor, "b n d"], index: Int[Tensor, "b k"]) -> Float[Tensor, "b k d"]:
    """tokens[b, index[b, k]]."""
    return tokens.flatten(0, 1).index_select(0, _rows(index, tokens.shape[1])).unflatten(0, index.shape)


def scatter_tokens(
    base: Float[Tensor, "b n d"], index: Int[Tensor, "b k"], values: Float[Tensor, "b k d"]
) -> Float[Tensor, "b n d"]:
    """A copy of `base` with base[b, index[b, k]] = values[b, k]; no place twice."""
    rows, given = _rows(index, base.shape[1]), values.to(base.dtype).flatten(0, 1)
    return base.flatten(0, 1).index_copy(0, rows, given).unflatten(0, base.shape[:2])


def _rows(index: Int[Tensor, "b k"], tokens: int) -> Int[Tensor, " bk"]:
    """Places in the flattened batch.

    Whole rows move 2 to 5 times as fast as the elements of torch.gather, and a deterministic kernel sorts rows only.
    """
    first = tokens * torch.arange(len(index), device=index.device)
    return (index + first.unsqueeze(1)).flatten()


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
