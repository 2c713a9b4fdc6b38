"""Token embeddings of a T5 encoder: of the true length of each caption, or with what it answers at padding.

T5 sees its own padding mask; captions of like length share a batch, so that hardly any padding is computed.
"""

from pathlib import Path
from typing import Any, Literal, Self

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from lightgen.config import QUIET, RUN, Member
from lightgen.encoders.tiny import tiny_t5
from lightgen.storage.networks import META, check_tokens, load_network, load_tokenizer
from lightgen.storage.weights import Weights, model_root, weights_folder

WIDTHS = {"google/flan-t5-xxl": 4096}
PARAMETERS = 4.8e9  # of the encoder of T5-XXL


class T5Config(Weights, Member):
    """Settings of a T5 encoder; the paper's is Flan-T5-XXL at 128 tokens (model_facts 1.3)."""

    kind: Literal["t5"] = "t5"
    model: str = Field(default="google/flan-t5-xxl", description="local folder, or owner/name on the Hugging Face hub")
    tokenizer_subfolder: str = Field(default="", description="for example tokenizer_2 of a Flux repository")
    max_tokens: int = Field(default=128, ge=1, description="longer captions are cut; the end mark counts")
    dtype: Literal["float32", "bfloat16", "float16"] = Field(default="bfloat16", description="of weights and products")
    storage: Literal["float16", "bfloat16"] = Field(default="bfloat16", description="type that features keep")
    padded: bool = Field(
        default=False,
        description="keep vectors of all max_tokens positions, those of padding too: for student.attend_padding",
        json_schema_extra=QUIET,
    )
    batch_tokens: int = Field(
        default=8192, ge=1, description="tokens of a batch, padding included", json_schema_extra=RUN
    )

    @property
    def folders(self) -> tuple[str, ...]:
        """Encoder and tokenizer."""
        return tuple(dict.fromkeys((self.subfolder, self.tokenizer_subfolder)))

    @property
    def wants_gpu(self) -> bool:
        """Whether it is much faster on a GPU."""
        return True

    @property
    def width(self) -> int | None:
        """Channels of its vectors, as far as that is known here without fetching."""
        settings = self.settings_here(self.subfolder)
        return settings.get("d_model") if settings else WIDTHS.get(self.model)

    def rehearse(self, folder: Path) -> Self:
        """See `Config.rehearse`: a T5 that is narrow inside, with vectors of the same width where it is known."""
        own = self.own_folder(folder)
        if not own.exists():
            tiny_t5(own, self.width or WIDTHS["google/flan-t5-xxl"])
        return self.model_copy(update={"model": str(own), "revision": None, "subfolder": "", "tokenizer_subfolder": ""})

    def flops(self, tokens: float) -> float:
        """Operations of a caption: a multiply-add a parameter for each token; of another model as of T5-XXL."""
        here = self.bytes_here()
        tokens = self.max_tokens if self.padded else tokens
        return 2 * tokens * (here / 2 if here else PARAMETERS)

    @property
    def weight_bytes(self) -> float:
        """Memory of its weights."""
        return self.bytes_here() or 2 * PARAMETERS

    def look(self, root: Path) -> None:
        """See `Weights.look`."""
        load_t5(self, META, root)

    def open(self, device: str) -> "T5TextEncoder":
        """The encoder on `device`. Raises ConfigError, ModelError."""
        return T5TextEncoder(self, device)


class T5TextEncoder:
    """Captions to the last hidden states of T5; `loaded` is its tokenizer and model, where they are at hand."""

    def __init__(self, config: T5Config, device: str, loaded: tuple[Any, Any] | None = None) -> None:
        self.config, self.device = config, device
        self.tokenizer, self.model = loaded or load_t5(config, device)
        self.model.to(device)
        self.dim: int = self.model.config.d_model

    @property
    def storage(self) -> Literal["float16", "bfloat16"]:
        """The type that features keep."""
        return self.config.storage

    @property
    def padded(self) -> bool:
        """See `TextEncoder.padded`."""
        return self.config.padded

    def encode(self, captions: list[str]) -> list[Float[Tensor, "tokens dim"]]:
        """One float32 tensor on the CPU a caption, rounded to the storage type; equal captions are computed once."""
        unique = list(dict.fromkeys(captions))
        longest = self.config.max_tokens
        ids = self.tokenizer(unique, truncation=True, max_length=longest).input_ids if unique else []
        vectors: dict[str, Tensor] = {}
        lengths = [longest if self.padded else len(tokens) for tokens in ids]
        for places in buckets(lengths, self.config.batch_tokens):
            states = self._states([ids[place] for place in places], lengths[places[0]])
            for place, vectors_of in zip(places, states, strict=True):
                vectors[unique[place]] = vectors_of[: lengths[place]].clone()
        return [vectors[caption] for caption in captions]

    @torch.inference_mode()
    def _states(self, ids: list[list[int]], length: int) -> Float[Tensor, "b length dim"]:
        """What T5 answers at all `length` positions, padding among them."""
        padded = torch.full((len(ids), length), self.tokenizer.pad_token_id)
        mask = torch.zeros_like(padded)
        for row, tokens in enumerate(ids):
            padded[row, : len(tokens)] = torch.tensor(tokens)
            mask[row, : len(tokens)] = 1
        states = self.model(input_ids=padded.to(self.device), attention_mask=mask.to(self.device)).last_hidden_state
        return states.to(getattr(torch, self.storage)).float().cpu()


def buckets(lengths: list[int], batch_tokens: int) -> list[list[int]]:
    """Places of captions in batches of like length, the longest first, each at most `batch_tokens` padded tokens."""
    batches: list[list[int]] = []
    for place in sorted(range(len(lengths)), key=lambda place: (-lengths[place], place)):
        # The first of a batch is its longest, so it alone decides the padded size.
        if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= batch_tokens:
            batches[-1].append(place)
        else:
            batches.append([place])
    return batches


def load_t5(config: T5Config, device: str, root: Path | None = None) -> tuple[Any, Any]:
    """Tokenizer and encoder, of the model in `root` where it is given. Raises ConfigError, ModelError."""
    from transformers import T5EncoderModel

    root = root or model_root(config)
    folder, dtype = weights_folder(config, root), getattr(torch, config.dtype)
    model = load_network(T5EncoderModel, folder, config.model, "T5 encoder", device, dtype=dtype)
    tokenizer = load_tokenizer(root / config.tokenizer_subfolder, config.model)
    check_tokens(model, tokenizer, config.model)
    return tokenizer, model
