"""Sentences as vectors of length 1: the mean of what a transformer says at each token, as sentence-transformers do."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float32
from pydantic import Field
from torch import Tensor

from lightgen.config import RUN
from lightgen.encoders.t5 import buckets
from lightgen.encoders.tiny import tiny_bert
from lightgen.errors import ModelError
from lightgen.storage.networks import META, check_tokens, load_network, load_tokenizer
from lightgen.storage.weights import Weights, weights_folder

OFF = 0.01  # how far from 1 the length of a vector may be


class SentenceConfig(Weights):
    """A model of sentences that `AutoModel` loads, such as sentence-transformers/all-MiniLM-L6-v2."""

    max_tokens: int = Field(default=128, ge=2, description="longer captions are cut")
    batch_tokens: int = Field(
        default=8192, ge=1, description="tokens of a batch, padding included", json_schema_extra=RUN
    )

    def rehearse(self, folder: Path) -> Self:
        """See `Config.rehearse`: a small model of random weights."""
        own = self.own_folder(folder)
        if not own.exists():
            tiny_bert(own)
        return self.model_copy(update={"model": str(own), "revision": None, "subfolder": ""})

    def look(self, root: Path) -> None:
        """See `Weights.look`."""
        _load(self, META, root)

    def open(self, device: str) -> "SentenceEncoder":
        """The model on `device`. Raises ConfigError, ModelError."""
        return SentenceEncoder(self, device)


class SentenceEncoder:
    """See the module."""

    def __init__(self, config: SentenceConfig, device: str) -> None:
        self.config, self.device = config, device
        self.tokenizer, self.model = _load(config, device)
        self.dim: int = self.model.config.hidden_size

    def encode(self, texts: Sequence[str]) -> Float32[np.ndarray, "n dim"]:
        """Unit vectors. Texts of like length share a batch. Raises ModelError where the model gives none."""
        ids = self.tokenizer(list(texts), truncation=True, max_length=self.config.max_tokens).input_ids if texts else []
        out = np.zeros((len(texts), self.dim), np.float32)
        for places in buckets([len(tokens) for tokens in ids], self.config.batch_tokens):
            out[places] = self._means([ids[place] for place in places]).cpu().numpy()
        # As NaN or zero a vector is like no other, and no caption would ever go.
        lost = np.flatnonzero(~(np.abs(np.linalg.norm(out, axis=1) - 1) < OFF))
        if len(lost):
            raise ModelError(
                f"model {self.config.model} gives {len(lost):,} of {len(texts):,} captions no vector but NaN or zeros, "
                f"the first {texts[lost[0]][:80]!r}: its weights are damaged; fetch them again"
            )
        return out

    @torch.inference_mode()
    def _means(self, ids: list[list[int]]) -> Tensor:
        padded = torch.full((len(ids), len(ids[0])), self.tokenizer.pad_token_id)
        mask = torch.zeros_like(padded)
        for row, tokens in enumerate(ids):
            padded[row, : len(tokens)] = torch.tensor(tokens)
            mask[row, : len(tokens)] = 1
        mask = mask.to(self.device)
        states = self.model(input_ids=padded.to(self.device), attention_mask=mask).last_hidden_state.float()
        means = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return torch.nn.functional.normalize(means, dim=1)


def _load(config: SentenceConfig, device: str, root: Path | None = None) -> tuple[Any, Any]:
    """Tokenizer and model. Raises ConfigError, ModelError."""
    from transformers import AutoModel

    folder = weights_folder(config, root)
    model = load_network(AutoModel, folder, config.model, "model of sentences", device, spare=("pooler.",))
    settings = model.config
    if settings.is_encoder_decoder or not hasattr(settings, "hidden_size") or not _reads_words(model):
        raise ModelError(
            f"model {config.model}: {type(model).__name__} is no model of sentences: it has no vector for a token; "
            "take an encoder of text, such as sentence-transformers/all-MiniLM-L6-v2"
        )
    tokenizer = load_tokenizer(folder, config.model)
    check_tokens(model, tokenizer, config.model)
    return tokenizer, model


def _reads_words(model: Any) -> bool:
    return isinstance(model.get_input_embeddings(), torch.nn.Embedding)
