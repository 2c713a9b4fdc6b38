"""Captions as vectors without a model: their terms by signed feature hashing, weighted by rarity."""

import numpy as np
from jaxtyping import Float32

from lightgen.decisions.far_apart import Rarity
from lightgen.decisions.shingles import Shingles


def hashed_terms(terms: Shingles, rarity: Rarity, dim: int) -> Float32[np.ndarray, "n dim"]:
    """Unit vectors, zero for texts without terms; the sign bit keeps collisions unbiased (Weinberger 2009)."""
    out = np.zeros((len(terms.offsets) - 1, dim), np.float32)
    text = np.repeat(np.arange(len(out)), np.diff(terms.offsets))
    sign = np.where(terms.hashes & np.uint32(1), 1, -1).astype(np.float32)
    slot = ((terms.hashes >> np.uint32(1)) % np.uint32(dim)).astype(np.int64)
    np.add.at(out, (text, slot), rarity.weights[terms.hashes >> np.uint32(rarity.shift)] * sign)
    norm = np.linalg.norm(out, axis=1, keepdims=True)
    return np.divide(out, norm, out=out, where=norm > 0)
