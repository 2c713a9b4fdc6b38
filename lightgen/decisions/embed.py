"""Texts as vectors without a model: signed feature hashing of word uni- and bigrams, weighted by rarity."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

from lightgen.decisions.far_apart import Rarity
from lightgen.decisions.shingles import Shingles, shingle


def hashed_ngrams(texts: Sequence[str], dim: int) -> Float32[np.ndarray, "n dim"]:
    """Unit vectors; the sign bit keeps collisions unbiased (Weinberger 2009), rarity is log(n / documents)."""
    out = np.zeros((len(texts), dim), np.float32)
    for words in (1, 2):
        grams = shingle(texts, words)
        text = np.repeat(np.arange(len(texts)), np.diff(grams.offsets))
        known, index, documents = np.unique(grams.hashes, return_inverse=True, return_counts=True)
        rarity = np.log1p(len(texts) / documents).astype(np.float32)
        sign = np.where(known & np.uint32(1), 1, -1).astype(np.float32)
        slot = ((known >> np.uint32(1)) % np.uint32(dim)).astype(np.int64)
        np.add.at(out, (text, slot[index]), (rarity * sign)[index])
    norm = np.linalg.norm(out, axis=1, keepdims=True)
    return np.divide(out, norm, out=out, where=norm > 0)


def hashed_terms(terms: Shingles, rarity: Rarity, dim: int) -> Float32[np.ndarray, "n dim"]:
    """Unit vectors of terms, by the same hashing."""
    out = np.zeros((len(terms.offsets) - 1, dim), np.float32)
    text = np.repeat(np.arange(len(out)), np.diff(terms.offsets))
    sign = np.where(terms.hashes & np.uint32(1), 1, -1).astype(np.float32)
    slot = ((terms.hashes >> np.uint32(1)) % np.uint32(dim)).astype(np.int64)
    np.add.at(out, (text, slot), rarity.weights[terms.hashes >> np.uint32(rarity.shift)] * sign)
    norm = np.linalg.norm(out, axis=1, keepdims=True)
    return np.divide(out, norm, out=out, where=norm > 0)
