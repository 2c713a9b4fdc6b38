"""Features in 8 bits: texts as int8 with a scale a group, standard deviations on a logarithmic scale a channel.

A text of l tokens is l x dim int8, then a bfloat16 scale for every group of up to 64 numbers of a token: one scale for
a whole token would be spoiled by the few channels of T5 that are a hundred times as large as others. Deviations are,
for each channel of a row, the smallest and a ratio in float32, then a code a number: 0 is zero, code k is the smallest
times ratio^(k - 1). The rows of a shard share both, so what codes mean is worked out once a shard. Little-endian.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from types import ModuleType

import numpy as np
import torch
from jaxtyping import Float, Float16, UInt8, UInt16
from torch import Tensor

from lightgen.errors import ConfigError

GROUP = 64
LEVELS = 127  # of int8, on each side of zero
CODES = 255  # of a deviation that is not zero
HEAD = 8  # bytes a channel: the smallest and the ratio
DAMAGE_FILE = "codec.json"  # beside the rows of a shard: how far they are from what was to be stored
QUANTILES = (0.0, 0.001, 0.01, 0.5)  # of cosines, the worst first
Bytes = UInt8[np.ndarray, " size"]


def group_of(dim: int) -> int:
    """Numbers that share a scale."""
    return math.gcd(dim, GROUP)


def text_bytes(dim: int) -> int:
    """Bytes of a token."""
    return dim + 2 * (dim // group_of(dim))


def quantised_text(text: Float[Tensor, "l t"]) -> Bytes:
    """A text as bytes."""
    groups = text.detach().float().cpu().reshape(-1, group_of(text.shape[1]))
    scale = (groups.abs().amax(1, keepdim=True) / LEVELS).bfloat16().float()
    codes = (groups / scale.clamp(min=torch.finfo(torch.float32).tiny)).round().clamp(-LEVELS, LEVELS).to(torch.int8)
    return np.concatenate([_bytes(codes), _bytes(scale.bfloat16())])


def read_text(raw: Bytes, into: UInt16[np.ndarray, "l t"], dtype: torch.dtype) -> None:
    """Write the text of these bytes into `into`, the bits of numbers of a 16-bit `dtype`, which must be contiguous."""
    count, group = into.size, group_of(into.shape[1])
    codes = raw[:count].view(np.int8).reshape(-1, group)
    scales = raw[count:].view(np.uint16)
    if dtype == torch.bfloat16:
        _loops().scaled_to_bfloat16(codes, scales, into.reshape(-1, group))
    else:
        factors = (scales.astype(np.uint32) << 16).view(np.float32)
        into.view(np.float16).reshape(-1, group)[:] = codes.astype(np.float32) * factors[:, None]


def bits_of(values: Tensor) -> UInt16[np.ndarray, "..."]:
    """The memory of a contiguous tensor of 16-bit numbers, to be read and written to."""
    assert values.is_contiguous(), "a copy would be written, and lost"
    return values.view(torch.int16).numpy().view(np.uint16)


def std_bytes(shape: Sequence[int]) -> int:
    """Bytes of the deviations of a row of `shape` ([2,] channels, rows, columns)."""
    return math.prod(shape) + HEAD * math.prod(shape[:-2])


def quantised_std(std: Float[Tensor, "n ... h w"]) -> UInt8[np.ndarray, "n size"]:
    """The deviations of rows as bytes."""
    planes = math.prod(std.shape[1:-2])
    values = std.detach().cpu().double().reshape(len(std), planes, math.prod(std.shape[-2:])).numpy()
    there = values > 0
    least = np.where(there, values, np.inf).min((0, 2), initial=np.inf)
    most = np.where(there, values, 0).max((0, 2), initial=0)
    least = np.where(most > 0, least, 1).astype("<f4")
    ratio = np.where(most > least, (most / least) ** (1 / (CODES - 1)), 1).astype("<f4")
    # One value alone has the ratio 1, and no steps.
    octaves = np.where(ratio > 1, np.log2(ratio.astype(float)), np.inf)[:, None]
    steps = np.log2(np.where(there, values, 1) / least[:, None]) / octaves
    codes = np.where(there, 1 + np.rint(steps).clip(0, CODES - 1), 0).astype(np.uint8)
    head = np.stack([least, ratio], -1).reshape(1, -1).view(np.uint8)
    return np.concatenate([np.repeat(head, len(std), 0), codes.reshape(len(std), math.prod(std.shape[1:]))], 1)


def read_std(raw: Bytes, into: Float16[np.ndarray, "planes numbers"]) -> None:
    """Write the deviations of these bytes into `into`: a row for each channel."""
    cut = HEAD * len(into)
    _loops().looked_up(_meaning(raw[:cut].tobytes()), raw[cut:].reshape(len(into), -1), into.view(np.uint16))


@cache
def _loops() -> ModuleType:
    """The inner loops. Asking for a module takes 0.7 us, where a row of deviations takes 6: so it is asked for once."""
    from lightgen.storage import dequantise

    return dequantise


@lru_cache(maxsize=4096)
def _meaning(head: bytes) -> UInt16[np.ndarray, "planes codes"]:
    """What each code stands for, as bits of float16: products one after the other, equal on every machine."""
    least, ratio = np.frombuffer(head, "<f4").reshape(-1, 2).astype(float).T
    factors = np.concatenate([least[:, None], np.repeat(ratio[:, None], CODES - 1, 1)], 1)
    values = np.multiply.accumulate(factors, 1).astype(np.float16)
    return np.concatenate([np.zeros((len(least), 1), np.float16), values], 1).view(np.uint16)


@dataclass
class Damage:
    """How far stored numbers are from those that were to be stored, gathered part by part."""

    squares: float = 0.0
    wrong: float = 0.0
    cosines: list[np.ndarray] = field(default_factory=list)

    def add(self, wanted: Float[Tensor, "n d"], stored: Float[Tensor, "n d"]) -> None:
        """Rows: a cosine is that of a row."""
        wanted, stored = wanted.double(), stored.double()
        self.squares += float(wanted.square().sum())
        self.wrong += float((wanted - stored).square().sum())
        lengths = wanted.norm(dim=1) * stored.norm(dim=1)
        there = lengths > 0
        self.cosines.append(((wanted * stored).sum(1)[there] / lengths[there]).float().numpy())

    @property
    def relative(self) -> float:
        """Relative L2: the length of what is wrong, as a share of the whole."""
        return math.sqrt(self.wrong / self.squares) if self.squares else 0.0

    def report(self) -> bytes:
        """What is sealed beside the rows, as JSON."""
        cosines = np.concatenate([*self.cosines, np.zeros(0, np.float32)])
        found = np.quantile(cosines.astype(float), QUANTILES).tolist() if len(cosines) else []
        told = {
            "relative_l2": self.relative,
            "vectors": len(cosines),
            "cosine": dict(zip(map(str, QUANTILES), found, strict=False)),
        }
        return json.dumps(told, indent=1).encode()

    def check(self, most: float, what: str, instead: str) -> None:
        """Raise ConfigError where more is wrong than `most`."""
        if self.relative > most:
            raise ConfigError(
                f"{what} would be stored {self.relative:.2%} wrong (relative L2), max_error allows {most:.2%}; "
                f"take {instead}, or allow more"
            )


def _bytes(values: Tensor) -> Bytes:
    return values.reshape(-1).contiguous().view(torch.uint8).numpy()
