"""Random numbers as a function of keys: the same whatever the batch, the rank, the order or the device.

Counter-based: number i of key k is splitmix64's output function at k + i * GOLDEN (Steele, Lea and Flood, "Fast
splittable pseudorandom number generators", 2014). Integers agree bit for bit on CPU and GPU, normals to rounding.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lightgen.seeds import derive_seed

Keys = Int[Tensor, " n"]


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


GOLDEN, FIRST, SECOND = (_signed(value) for value in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def mix(x: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
    """Splitmix64's bijection of 64-bit integers (int64, wrapping), in which every bit depends on every bit."""
    x = (x ^ _shift(x, 30)) * FIRST
    x = (x ^ _shift(x, 27)) * SECOND
    return x ^ _shift(x, 31)


def keys_for(ids: Int[Tensor, " n"], visits: Int[Tensor, " n"], seed: int) -> Keys:
    """One key for each (sample, visit of it) of a run."""
    return mix(mix(ids + derive_seed(seed, "samples")) + visits * GOLDEN)


def stream(keys: Keys, purpose: str) -> Keys:
    """Keys of an independent stream, so that two uses of one key share no number."""
    return mix(keys ^ derive_seed(purpose))


def bits(keys: Keys, count: int) -> Int[Tensor, "n count"]:
    """`count` uniform 64-bit integers a key."""
    counter = torch.arange(1, count + 1, device=keys.device)
    return mix(keys[:, None] + counter * GOLDEN)


def uniform(keys: Keys, count: int) -> Float[Tensor, "n count"]:
    """Uniform numbers in (0, 1), float32 of 23 bits."""
    return (_shift(bits(keys, count), 41).float() + 0.5) * 2.0**-23


def integers(keys: Keys, count: int, high: int) -> Int[Tensor, "n count"]:
    """Uniform integers in [0, high), high below 2**31."""
    return _shift(_shift(bits(keys, count), 32) * high, 32)


def normal(keys: Keys, count: int) -> Float[Tensor, "n count"]:
    """Standard normal numbers (Box-Muller, two from one integer), float32."""
    drawn = bits(keys, (count + 1) // 2)
    first, second = ((part.float() + 0.5) * 2.0**-32 for part in (_shift(drawn, 32), drawn & 0xFFFFFFFF))
    radius, angle = (-2 * first.log()).clamp_(min=0).sqrt_(), second * (2 * math.pi)
    return torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)[:, :count]


def permutations(keys: Keys, count: int) -> Int[Tensor, "n count"]:
    """One permutation of 0..count-1 a key."""
    return bits(keys, count).argsort(dim=1, stable=True)


def _shift(x: Int[Tensor, "..."], by: int) -> Int[Tensor, "..."]:
    """Logical shift to the right: int64's own keeps the sign."""
    return (x >> by) & ((1 << (64 - by)) - 1)
