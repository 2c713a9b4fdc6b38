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
from lightgen.storage.weights import Weights, model_root, weights_folder


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

    def open(self, device: str) -> "SentenceEncoder":
        """The model on `device`. Raises ConfigError, ModelError."""
        return SentenceEncoder(self, device)


class SentenceEncoder:
    """See the module."""

    def __init__(self, config: SentenceConfig, device: str) -> None:
        self.config, self.device = config, device
        self.tokenizer, model = _load(config)
        self.model = model.to(device)
        self.dim: int = model.config.hidden_size

    def encode(self, texts: Sequence[str]) -> Float32[np.ndarray, "n dim"]:
        """Unit vectors. Texts of like length share a batch."""
        ids = self.tokenizer(list(texts), truncation=True, max_length=self.config.max_tokens).input_ids if texts else []
        out = np.zeros((len(texts), self.dim), np.float32)
        for places in buckets([len(tokens) for tokens in ids], self.config.batch_tokens):
            out[places] = self._means([ids[place] for place in places]).cpu().numpy()
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


def _load(config: SentenceConfig) -> tuple[Any, Any]:
    """Tokenizer and model, on the CPU. Raises ConfigError, ModelError."""
    from safetensors import SafetensorError
    from transformers import AutoModel, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(model_root(config) / config.subfolder, local_files_only=True)
        model = AutoModel.from_pretrained(weights_folder(config), use_safetensors=True, local_files_only=True)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"model {config.model}: not a usable model of sentences: {str(error)[:300]}") from None
    return tokenizer, model.eval().requires_grad_(False)
