"""A counter-based random number generator: every number is a pure function of a key and a counter.

Neither the batch, the rank, the order nor the device changes what is drawn for a sample. Number i of key k is
splitmix64's output function at k + i * GOLDEN_GAMMA (Steele, Lea and Flood, "Fast splittable pseudorandom number
generators", 2014). Integers are equal bit for bit on CPU and GPU, normal numbers to rounding.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lightgen.seeds import derive_seed

Keys = Int[Tensor, " n"]


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


GOLDEN_GAMMA = _signed(0x9E3779B97F4A7C15)
MULTIPLIERS = _signed(0xBF58476D1CE4E5B9), _signed(0x94D049BB133111EB)


def mix(x: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
    """Splitmix64's bijection of 64-bit integers (int64, wrapping), in which every bit depends on every bit."""
    x = (x ^ _logical_shift(x, 30)) * MULTIPLIERS[0]
    x = (x ^ _logical_shift(x, 27)) * MULTIPLIERS[1]
    return x ^ _logical_shift(x, 31)


def sample_keys(ids: Int[Tensor, " n"], epochs: Int[Tensor, " n"], seed: int) -> Keys:
    """One key for each sample id in its epoch, for a run with `seed`."""
    return mix(mix(ids + derive_seed(seed, "samples")) + epochs * GOLDEN_GAMMA)


def stream(keys: Keys, purpose: str) -> Keys:
    """Keys of the independent stream named `purpose`: two purposes share no number."""
    return mix(keys ^ derive_seed(purpose))


def bits(keys: Keys, count: int) -> Int[Tensor, "n count"]:
    """`count` uniform 64-bit integers a key."""
    counter = torch.arange(1, count + 1, device=keys.device)
    return mix(keys[:, None] + counter * GOLDEN_GAMMA)


def uniform(keys: Keys, count: int) -> Float[Tensor, "n count"]:
    """`count` uniform numbers in (0, 1) a key, float32 of 23 bits."""
    return (_logical_shift(bits(keys, count), 41).float() + 0.5) * 2.0**-23


def integers(keys: Keys, count: int, high: int) -> Int[Tensor, "n count"]:
    """`count` uniform integers in [0, high) a key; `high` must be below 2**31."""
    return _logical_shift(_logical_shift(bits(keys, count), 32) * high, 32)


def normal(keys: Keys, count: int) -> Float[Tensor, "n count"]:
    """`count` standard normal numbers a key, float32 (Box-Muller, two from one integer)."""
    drawn = bits(keys, (count + 1) // 2)
    halves = (_logical_shift(drawn, 32), drawn & 0xFFFFFFFF)
    first, second = ((half.float() + 0.5) * 2.0**-32 for half in halves)
    radius, angle = (-2 * first.log()).clamp_(min=0).sqrt_(), second * (2 * math.pi)
    return torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)[:, :count]


def permutations(keys: Keys, count: int) -> Int[Tensor, "n count"]:
    """One permutation of 0..count-1 a key."""
    return bits(keys, count).argsort(dim=1, stable=True)


def _logical_shift(x: Int[Tensor, "..."], by: int) -> Int[Tensor, "..."]:
    """Logical shift to the right: int64's own keeps the sign."""
    return (x >> by) & ((1 << (64 - by)) - 1)
