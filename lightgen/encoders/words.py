"""A text encoder without weights: every word has a fixed random vector of unit length, seeded by the word itself."""

import re
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from lightgen.seeds import derive_seed

WORD = re.compile(r"\w+(?:'\w+)?")


class WordsConfig(BaseModel):
    """Settings of the embedded text encoder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["words"] = "words"
    dim: int = Field(default=64, ge=1, description="length of a word's vector")
    max_tokens: int = Field(default=128, ge=1, description="words kept of a caption")
    storage: Literal["float16", "bfloat16"] = "float16"


def words_of(caption: str) -> list[str]:
    """Lower-case words without punctuation."""
    return WORD.findall(caption.casefold())


class WordsEncoder:
    """Captions to word vectors; word order is the order of rows and nothing else."""

    def __init__(self, config: WordsConfig) -> None:
        self.config, self.dim = config, config.dim
        self.identity: dict[str, Any] = {"kind": "words", "dim": config.dim}

    @property
    def storage(self) -> Literal["float16", "bfloat16"]:
        """The type that features keep."""
        return self.config.storage

    def encode(self, captions: list[str]) -> list[Float[Tensor, "tokens dim"]]:
        """One float32 tensor a caption, already rounded to the storage type so that features and samples agree."""
        dtype = getattr(torch, self.storage)
        found = [words_of(caption)[: self.config.max_tokens] for caption in captions]
        rows = [[_vector(word, self.dim) for word in words] for words in found]
        empty = np.zeros((0, self.dim), np.float32)
        return [torch.from_numpy(np.stack(row) if row else empty).to(dtype).float() for row in rows]


@lru_cache(maxsize=65_536)
def _vector(word: str, dim: int) -> np.ndarray:
    vector = np.random.Generator(np.random.PCG64(derive_seed("words", word, dim))).standard_normal(dim)
    return (vector / np.linalg.norm(vector)).astype(np.float32)
