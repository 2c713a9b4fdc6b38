"""What features take on the disk: files of random rows, plain and in 8 bits, measured and multiplied up."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from lightgen.bench.loader import LATENT, write_features
from lightgen.storage.quantised import Damage

ROWS = 64  # measured
STORED = 2_000_000  # images, each of a prompt of its own, at both resolutions
SIDES = (1, 2)  # in sides of LATENT: 256 and 512 px


@dataclass(frozen=True)
class StoreBytes:
    """Bytes of one text and of one latent at each resolution, and how wrong texts and deviations are (relative L2)."""

    name: str
    text: float
    latents: tuple[float, ...]
    text_error: float
    std_error: float

    @property
    def terabytes(self) -> float:
        """Of `STORED` texts and as many latents at each resolution."""
        return STORED * (self.text + sum(self.latents)) / 1e12

    @property
    def arithmetic(self) -> str:
        """One line for people."""
        each = " + ".join(f"{size:,.0f}" for size in (self.text, *self.latents))
        wrong = f"texts {self.text_error:.2%} and deviations {self.std_error:.2%} wrong"
        return f"{self.name}: {STORED:,} x ({each} B) = {self.terabytes:.2f} TB; {wrong} (relative L2)"


def bench_bytes() -> list[StoreBytes]:
    """Plain, then in 8 bits; texts are of 39 tokens of 4,096 random channels on average, as `lightgen.bench.loader`."""
    return [_measured("plain", False), _measured("8 bits", True)]


def _measured(name: str, short: bool) -> StoreBytes:
    latents, text, errors = [], 0.0, (0.0, 0.0)
    for times in SIDES:
        with TemporaryDirectory() as folder:
            shape = (LATENT[0], times * LATENT[1], times * LATENT[2])
            write_features(Path(folder), ROWS, shape, short)
            latents.append(_bytes(folder, "rows"))
            text = _bytes(folder, "texts")
            errors = _errors(Path(folder), shape, short) if times == 1 else errors
    return StoreBytes(name, text, tuple(latents), *errors)


def _errors(folder: Path, shape: tuple[int, int, int], short: bool) -> tuple[float, float]:
    """Of texts and of deviations, against the plain rows."""
    plain = folder / "plain"
    plain.mkdir()
    every, first = np.arange(ROWS), np.zeros(ROWS, np.int64)
    found, wanted = (write_features(place, ROWS, shape, kind).batch(every, first)
                     for place, kind in ((folder, short), (plain, False)))  # fmt: skip
    text, std = Damage(), Damage()
    text.add(wanted.text.float().flatten(0, 1), found.text.float().flatten(0, 1))
    assert wanted.std is not None
    assert found.std is not None
    std.add(wanted.std.float().flatten(1), found.std.float().flatten(1))
    return text.relative, std.relative


def _bytes(folder: str, name: str) -> float:
    """Of a row in the files of that name."""
    return sum(path.stat().st_size for path in Path(folder).glob(f"{name}-*")) / ROWS
