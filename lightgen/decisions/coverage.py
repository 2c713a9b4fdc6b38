"""Attribute coverage: which concepts a set of captions speaks of, and how evenly."""

import numpy as np
from jaxtyping import Int64

from lightgen.decisions.concepts import KINDS, Concepts

Coverage = dict[str, dict[str, float | int]]


def coverage(concepts: Concepts, counts: Int64[np.ndarray, " concepts"]) -> Coverage:
    """By kind: concepts of the list, how many are found, and how many evenly spoken of are as diverse.

    `counts` says how many captions speak of each concept. The last figure is exp(entropy) of their shares.
    """
    kinds = np.array([KINDS.index(kind) for kind, _ in concepts.names])
    return {kind: _of_kind(counts[kinds == number]) for number, kind in enumerate(KINDS)}


def _of_kind(counts: np.ndarray) -> dict[str, float | int]:
    shares = counts[counts > 0] / max(int(counts.sum()), 1)
    even = float(np.exp(-(shares * np.log(shares)).sum())) if len(shares) else 0.0
    return {"listed": len(counts), "found": len(shares), "even": float(f"{even:.6g}")}
