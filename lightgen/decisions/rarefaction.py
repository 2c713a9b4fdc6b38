"""How many kinds of things fewer or more texts would speak of, from how often each kind is met in a sample.

Within the sample the figures are means over all orders of its texts, exact (Colwell et al. 2012 for kinds, Chao and
Jost 2012 for coverage). Beyond it they rest on a mixture of Poisson rates that is fitted to how many kinds were met
once, twice and so on (conditional nonparametric maximum likelihood: Norris and Pollock 1998, Wang and Lindsay 2005).
docs/decisions/0023 compares it with the estimators of Chao and of Orlitsky et al.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float64, Int64
from scipy.special import gammaln

RARE = 100  # a kind that was met more often is in any sample as large
RATES = np.geomspace(0.02, 1.3 * RARE, 48)  # times that a kind is met in a sample on average
ROUNDS, SETTLED = 3000, 1e-9  # of the fit: at most so many, and the gain of likelihood a kind that ends it


@dataclass(frozen=True)
class Frequencies:
    """`kinds[i]` kinds of things are met in exactly `times[i]` of `texts` texts."""

    texts: int
    times: Float64[np.ndarray, " n"]
    kinds: Float64[np.ndarray, " n"]

    @staticmethod
    def of(met: Int64[np.ndarray, " things"], texts: int) -> "Frequencies":
        """From how many texts speak of each thing; 0 is not met."""
        times, kinds = np.unique(met[met > 0], return_counts=True)
        return Frequencies(texts, times.astype(np.float64), kinds.astype(np.float64))

    @property
    def met(self) -> float:
        """Kinds that the sample speaks of."""
        return float(self.kinds.sum())

    @property
    def mentions(self) -> float:
        """Texts of each kind, summed over kinds."""
        return float((self.times * self.kinds).sum())

    @property
    def turing(self) -> float:
        """Share of mentions in a further text whose kind was not met (Good 1953): kinds met once over mentions."""
        return float(self.kinds[self.times == 1].sum()) / self.mentions if self.mentions else 1.0

    def found(self, volumes: Sequence[int]) -> Float64[np.ndarray, " volumes"]:
        """Kinds that so many texts speak of, on average."""
        out = np.empty(len(volumes))
        for place, volume in enumerate(volumes):
            if volume <= self.texts:
                out[place] = self.met - (self.kinds * self._missed(volume, self.texts)).sum()
            else:
                new = np.exp(-RATES) - np.exp(-RATES * (volume / self.texts))
                out[place] = self.met + (self._mixture * new).sum()
        return out

    def coverage(self, volumes: Sequence[int]) -> Float64[np.ndarray, " volumes"]:
        """Share of the mentions in one text more whose kind so many texts have spoken of, on average."""
        out = np.full(len(volumes), 1 - self.turing)
        for place, volume in enumerate(volumes if self.turing and self.mentions else []):
            if volume < self.texts:
                weighted = self.kinds * self.times * self._missed(volume, self.texts - 1)
                out[place] = 1 - weighted.sum() / self.mentions
            else:
                met = self._mixture * RATES
                left = (met * np.exp(-RATES * (volume / self.texts))).sum() / (met * np.exp(-RATES)).sum()
                out[place] = 1 - self.turing * float(left)
        return out

    def _missed(self, volume: int, others: int) -> Float64[np.ndarray, " n"]:
        """Chance that `volume` texts miss all of a kind: C(texts - times, volume) / C(others, volume).

        `others`, which they are taken of, is `texts`, or one less where a text of the kind itself is set apart.
        """
        room = self.texts - self.times
        can = room >= volume
        free = np.where(can, room, volume)
        log = gammaln(free + 1) - gammaln(free - volume + 1) - gammaln(others + 1) + gammaln(others - volume + 1)
        return np.where(can, np.exp(log), 0.0)

    @cached_property
    def _mixture(self) -> Float64[np.ndarray, " rates"]:
        """How many kinds, met or not, are met at each of RATES; expectation-maximisation from equal weights."""
        rare = self.times <= RARE
        times, kinds = self.times[rare, None], self.kinds[rare]
        weights, total, before = np.full(len(RATES), 1 / len(RATES)), kinds.sum(), -np.inf
        if not total:
            return np.zeros(len(RATES))
        shown = -np.expm1(-RATES)
        chance = np.exp(times * np.log(RATES) - RATES - gammaln(times + 1)) / shown
        for _ in range(ROUNDS):
            expected = chance @ weights
            likelihood = float((kinds * np.log(expected)).sum() / total)
            if likelihood - before < SETTLED:
                break
            weights, before = weights * (chance.T @ (kinds / expected)) / total, likelihood
        return total * weights / shown
