"""A text encoder without weights: every word has a fixed random vector of unit length, seeded by the word itself."""

import re
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Float32
from pydantic import Field
from torch import Tensor

from lightgen.config import Member
from lightgen.seeds import derive_seed

WORD = re.compile(r"\w+(?:'\w+)?")
TINT = 0.5  # length of a neighbour's part in a word's vector


class WordsConfig(Member):
    """Settings of the embedded text encoder."""

    kind: Literal["words"] = "words"
    dim: int = Field(default=64, ge=1, description="length of a word's vector")
    context: int = Field(
        default=0,
        ge=0,
        le=16,
        description="neighbours on each side that tint a word's vector, as in contextual encoders",
    )
    max_tokens: int = Field(default=128, ge=1, description="words kept of a caption")
    storage: Literal["float16", "bfloat16"] = Field(default="float16", description="type that features keep")

    @property
    def wants_gpu(self) -> bool:
        """Whether it is much faster on a GPU."""
        return False

    @property
    def width(self) -> int:
        """Channels of its vectors."""
        return self.dim

    def flops(self, tokens: float) -> float:
        """Operations of a caption: next to none."""
        return 0.0

    @property
    def weight_bytes(self) -> float:
        """Memory of its weights."""
        return 0.0

    def open(self, device: str) -> "WordsEncoder":
        """The encoder; there is nothing to put on a device."""
        return WordsEncoder(self)


def words_of(caption: str) -> list[str]:
    """Lower-case words without punctuation."""
    return WORD.findall(caption.casefold())


class WordsEncoder:
    """Captions to word vectors, one row a word.

    With `context` a word's vector knows its neighbours, as those of T5 do: each is added at TINT of its length, after a
    rotation of its own for every distance and side, so that "red" before a noun differs from "red" after it.
    """

    def __init__(self, config: WordsConfig) -> None:
        self.config, self.dim = config, config.dim

    @property
    def storage(self) -> Literal["float16", "bfloat16"]:
        """The type that features keep."""
        return self.config.storage

    @property
    def padded(self) -> bool:
        """See `TextEncoder.padded`: there are no vectors of padding."""
        return False

    def encode(self, captions: list[str]) -> list[Float[Tensor, "tokens dim"]]:
        """One float32 tensor a caption, already rounded to the storage type so that features and samples agree."""
        dtype = getattr(torch, self.storage)
        found = [words_of(caption)[: self.config.max_tokens] for caption in captions]
        return [torch.from_numpy(self._vectors(words)).to(dtype).float() for words in found]

    def _vectors(self, words: list[str]) -> Float32[np.ndarray, "tokens dim"]:
        if not words:
            return np.zeros((0, self.dim), np.float32)
        plain = np.stack([_vector(word, self.dim) for word in words])
        tinted = plain.copy()
        for distance in range(1, min(self.config.context, len(words) - 1) + 1):
            tinted[distance:] += TINT * _rotated(plain[:-distance], distance)
            tinted[:-distance] += TINT * _rotated(plain[distance:], -distance)
        return tinted / np.linalg.norm(tinted, axis=1, keepdims=True)


@lru_cache(maxsize=65_536)
def _vector(word: str, dim: int) -> np.ndarray:
    vector = np.random.Generator(np.random.PCG64(derive_seed("words", word, dim))).standard_normal(dim)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def _rotated(vectors: Float32[np.ndarray, "tokens dim"], place: int) -> Float32[np.ndarray, "tokens dim"]:
    """The vectors as neighbours at `place` (1: one word before), by a signed permutation: lengths stay."""
    order, sign = _rotation(place, vectors.shape[1])
    return vectors[:, order] * sign


@lru_cache(maxsize=256)
def _rotation(place: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.Generator(np.random.PCG64(derive_seed("words", "place", place, dim)))
    return random.permutation(dim), random.choice(np.array([-1, 1], np.float32), dim)
