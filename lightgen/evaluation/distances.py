"""How far two sets of pictures lie apart in the space of a feature network: Fréchet distance and MMD.

Both depend on the network as much as on the pictures, so a figure is named after it; "FID" is the Fréchet distance on
one certain InceptionV3 alone. Memory: d x d numbers for the moments of d features, and two blocks for the MMD.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

SIGMA, SCALE = 10.0, 1000.0  # of CMMD (Jayasumana et al. 2024)
Vectors = Float[np.ndarray, "n d"]
# Gives the vectors of a set block by block, from the first one each time it is called.
Blocks = Callable[[], Iterator[Vectors]]


@dataclass
class Moments:
    """Number, mean and summed squared deviations of vectors that come block by block (Chan et al. 1979)."""

    count: int = 0
    mean: Float[np.ndarray, " d"] = field(default_factory=lambda: np.zeros(0))
    scatter: Float[np.ndarray, "d d"] = field(default_factory=lambda: np.zeros((0, 0)))

    def add(self, vectors: Vectors) -> None:
        """Takes one block in."""
        if len(vectors) == 0:
            return
        block = np.asarray(vectors, np.float64)
        mean = block.mean(axis=0)
        centred = block - mean
        if self.count == 0:
            self.count, self.mean, self.scatter = len(block), mean, centred.T @ centred
            return
        total, apart = self.count + len(block), mean - self.mean
        self.scatter = self.scatter + centred.T @ centred + np.outer(apart, apart) * (self.count * len(block) / total)
        self.mean = self.mean + apart * (len(block) / total)
        self.count = total

    @property
    def covariance(self) -> Float[np.ndarray, "d d"]:
        """With n - 1 in the denominator, as is usual for these distances."""
        return self.scatter / (self.count - 1)


def moments_of(blocks: Blocks) -> Moments:
    """Moments of a set."""
    found = Moments()
    for block in blocks():
        found.add(block)
    return found


def frechet(a: Moments, b: Moments) -> float:
    """|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)): squared distance of two normal distributions.

    Small sets make it too large, by about tr(C) / n and more where n is below d; compare with that of two halves of
    one set. The root is taken of the symmetric C_a^(1/2) C_b C_a^(1/2), which has the same trace. Time grows with d^3.
    """
    root = _root(a.covariance)
    between = np.linalg.eigvalsh(root @ b.covariance @ root)
    traces = np.trace(a.covariance) + np.trace(b.covariance) - 2 * np.sqrt(between.clip(min=0)).sum()
    return max(0.0, float(np.square(a.mean - b.mean).sum() + traces))


def mmd(a: Blocks, b: Blocks) -> float:
    """SCALE times the squared MMD of unit vectors with a Gaussian kernel of width SIGMA, as CMMD defines it.

    CMMD is this on CLIP's ViT-L/14 at 336 px. Like its published code the estimate is the biased one, so it is 0 for
    equal sets and above for two of the same kind. Time grows with the pairs of vectors, n_a n_b + n_a^2 + n_b^2.
    """
    return SCALE * (mean_kernel(a, a) + mean_kernel(b, b) - 2 * mean_kernel(a, b))


def mean_kernel(a: Blocks, b: Blocks) -> float:
    """Mean over all pairs of exp(-|x - y|^2 / (2 SIGMA^2)), x and y at unit length; float64, two blocks held."""
    total, pairs = 0.0, 0
    for first in a():
        x = unit(first)
        for second in b():
            # Unit vectors: |x - y|^2 = 2 - 2 x y.
            total += float(np.exp((x @ unit(second).T - 1) / SIGMA**2).sum())
            pairs += len(x) * len(second)
    return total / pairs


def unit(vectors: Vectors) -> Vectors:
    """The vectors at length 1; one of length 0 stays as it is."""
    wide = np.asarray(vectors, np.float64)
    length = np.linalg.norm(wide, axis=1, keepdims=True)
    return np.divide(wide, length, out=wide.copy(), where=length > 0)


def _root(symmetric: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(symmetric)
    return (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
