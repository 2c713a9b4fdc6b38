"""Transformer blocks of the student: pre-norm ViT blocks and text cross-attention."""

from math import inf
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

NORM_EPS = 1e-6
VECTOR = 16  # float32 numbers in the widest register of a CPU
SHORT = 64  # keys up to which batched products are faster on two cores than the fused kernel, and on one as fast
IN_FLOAT32 = ("cpu",)  # devices whose attention in bfloat16 is slower: ten times so backwards


class KeyValue(NamedTuple):
    """What a cross-attention reads of a text. A tuple, so that FSDP and the compiler see the tensors in it."""

    key: Float[Tensor, "b h l k"]
    value: Float[Tensor, "b h l k"]


# The text as a block may be given it: aligned vectors, or what its own `read` made of them for many passes.
Words = Float[Tensor, "b l d"] | KeyValue


class SelfAttention(nn.Module):
    """Multi-head attention of a sequence over itself; `keep` marks the keys that may be attended."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "b n d"], keep: Bool[Tensor, "b n"] | None = None) -> Float[Tensor, "b n d"]:
        projected = self.qkv(x)
        query, key, value = _heads(projected, 3, self.heads)
        heard = _attend(query, key, value, keep, self.dropout if self.training else 0.0)
        return self.proj(heard.to(projected.dtype))


class CrossAttention(nn.Module):
    """Image tokens ask (queries), text tokens answer (keys and values, by `read`)."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)

    def read(self, text: Float[Tensor, "b l d"]) -> KeyValue:
        """Keys and values of `text`, for any number of queries."""
        return KeyValue(*_heads(self.key_value(text), 2, self.heads))

    def forward(
        self, x: Float[Tensor, "b n d"], words: KeyValue, keep: Bool[Tensor, "b l"] | None
    ) -> Float[Tensor, "b n d"]:
        projected = self.query(x)
        (query,) = _heads(projected, 1, self.heads)
        heard = _attend(query, words.key, words.value, keep, self.dropout if self.training else 0.0)
        return self.proj(heard.to(projected.dtype))


class Mlp(nn.Module):
    """Two linear layers with GELU between them, and dropout after it as in the published blocks."""

    def __init__(self, width: int, ratio: float, dropout: float) -> None:
        super().__init__()
        self.up = nn.Linear(width, int(width * ratio))
        self.down = nn.Linear(int(width * ratio), width)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
        return self.down(self.drop(F.gelu(self.up(x))))


class SelfBlock(nn.Module):
    """Self-attention and MLP: 12 D^2 + 13 D parameters."""

    def __init__(self, width: int, heads: int, mlp_ratio: float, dropout: float) -> None:
        super().__init__()
        self.attention_norm = norm(width)
        self.attention = SelfAttention(width, heads, dropout)
        self.mlp_norm = norm(width)
        self.mlp = Mlp(width, mlp_ratio, dropout)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "b n d"], keep: Bool[Tensor, "b n"] | None = None) -> Float[Tensor, "b n d"]:
        x = x + self.drop(self.attention(self.attention_norm(x), keep))
        return x + self.drop(self.mlp(self.mlp_norm(x)))


class CrossBlock(nn.Module):
    """Cross-attention and MLP without self-attention, for text after the decoder: 12 D^2 + 15 D parameters.

    `skip_after_norm`: the published model takes the residual after the query norm (model_facts 1.4).
    """

    def __init__(self, width: int, heads: int, mlp_ratio: float, dropout: float, skip_after_norm: bool) -> None:
        super().__init__()
        self.skip_after_norm = skip_after_norm
        self.query_norm, self.text_norm = norm(width), norm(width)
        self.attention = CrossAttention(width, heads, dropout)
        self.mlp_norm = norm(width)
        self.mlp = Mlp(width, mlp_ratio, dropout)
        self.drop = nn.Dropout(dropout)

    def read(self, text: Float[Tensor, "b l d"]) -> KeyValue:
        """All that this block needs of the text."""
        return self.attention.read(self.text_norm(text))

    def forward(
        self, x: Float[Tensor, "b n d"], text: Words, keep: Bool[Tensor, "b l"] | None
    ) -> Float[Tensor, "b n d"]:
        query = self.query_norm(x)
        skip = query if self.skip_after_norm else x
        words = text if isinstance(text, KeyValue) else self.read(text)
        x = skip + self.drop(self.attention(query, words, keep))
        return x + self.drop(self.mlp(self.mlp_norm(x)))


class InterleavedBlock(nn.Module):
    """Self-attention, cross-attention to the text, MLP: masked tokens hear the prompt and each other in every block."""

    def __init__(self, width: int, heads: int, mlp_ratio: float, dropout: float) -> None:
        super().__init__()
        self.attention_norm = norm(width)
        self.attention = SelfAttention(width, heads, dropout)
        self.query_norm, self.text_norm = norm(width), norm(width)
        self.cross = CrossAttention(width, heads, dropout)
        self.mlp_norm = norm(width)
        self.mlp = Mlp(width, mlp_ratio, dropout)
        self.drop = nn.Dropout(dropout)

    def read(self, text: Float[Tensor, "b l d"]) -> KeyValue:
        """All that this block needs of the text."""
        return self.cross.read(self.text_norm(text))

    def forward(
        self, x: Float[Tensor, "b n d"], text: Words, keep: Bool[Tensor, "b l"] | None
    ) -> Float[Tensor, "b n d"]:
        x = x + self.drop(self.attention(self.attention_norm(x)))
        words = text if isinstance(text, KeyValue) else self.read(text)
        x = x + self.drop(self.cross(self.query_norm(x), words, keep))
        return x + self.drop(self.mlp(self.mlp_norm(x)))


def norm(width: int) -> nn.LayerNorm:
    """LayerNorm with the epsilon of ViT."""
    return nn.LayerNorm(width, eps=NORM_EPS)


def apply_block(block: nn.Module, recompute: bool, x: Float[Tensor, "b n d"], *rest: object) -> Float[Tensor, "b n d"]:
    """`block(x, *rest)`; with `recompute` its activations are not kept but computed again in the backward pass."""
    if recompute and torch.is_grad_enabled():
        return checkpoint(block, x, *rest, use_reentrant=False)  # type: ignore[return-value]
    return block(x, *rest)


def init_linear(module: nn.Module) -> None:
    """Xavier-uniform weights and zero biases for every linear layer; to be used with `apply`."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)


def _heads(projected: Float[Tensor, "b n w"], parts: int, heads: int) -> list[Float[Tensor, "b h n k"]]:
    """Queries, keys or values side by side in `projected`, each cut into its heads, in the precision of attention.

    Cast and cut in this order their gradients are joined by one copy, which is laid out as the product before it wants.
    """
    if projected.device.type in IN_FLOAT32:
        projected = projected.float()
    return [part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in projected.chunk(parts, -1)]


def _attend(
    query: Float[Tensor, "b h n k"],
    key: Float[Tensor, "b h m k"],
    value: Float[Tensor, "b h m k"],
    keep: Bool[Tensor, "b m"] | None,
    dropout: float,
) -> Float[Tensor, "b n d"]:
    """Softmax attention over the kept keys, heads joined."""
    if query.shape[2] == 0:
        # Fused kernels refuse an empty sequence. The queries keep their weights in the graph, with gradients of zero.
        return torch.flatten(query.transpose(1, 2), 2)
    mask = None if keep is None else keep[:, None, None, :]
    if query.device.type == "cpu":
        with torch.autocast("cpu", enabled=False):
            out = _attend_on_cpu(query, key, value, mask, dropout)
    else:
        out = F.scaled_dot_product_attention(query, key, value, mask, dropout)
    return torch.flatten(out.transpose(1, 2), 2)


def _attend_on_cpu(
    query: Float[Tensor, "b h n k"],
    key: Float[Tensor, "b h m k"],
    value: Float[Tensor, "b h m k"],
    mask: Bool[Tensor, "b 1 1 m"] | None,
    dropout: float,
) -> Float[Tensor, "b h n k"]:
    """Over few keys by batched products: the fused kernel of a CPU divides many short sequences badly on its cores."""
    if mask is not None:
        key, value, mask = _whole_vectors(key, value, mask)
    if key.shape[2] > SHORT:
        return F.scaled_dot_product_attention(query, key, value, mask, dropout)
    shape = *query.shape[:3], key.shape[2]
    bias = query.new_zeros(()) if mask is None else torch.zeros_like(mask, dtype=query.dtype).masked_fill_(~mask, -inf)
    query, key, value = (each.flatten(0, 1) for each in (query, key, value))
    scores = torch.baddbmm(bias.expand(shape).flatten(0, 1), query, key.mT, alpha=query.shape[2] ** -0.5)
    return torch.bmm(F.dropout(scores.softmax(-1), dropout), value).unflatten(0, shape[:2])


def _whole_vectors(
    key: Float[Tensor, "b h m k"], value: Float[Tensor, "b h m k"], mask: Bool[Tensor, "b 1 1 m"]
) -> tuple[Float[Tensor, "b h mm k"], Float[Tensor, "b h mm k"], Bool[Tensor, "b 1 1 mm"]]:
    """Keys, values and their mask, padded with hidden ones to a multiple of VECTOR.

    The CPU's softmax takes ten times as long for a row that does not fill its vectors.
    """
    missing = -key.shape[2] % VECTOR
    return F.pad(key, (0, 0, 0, missing)), F.pad(value, (0, 0, 0, missing)), F.pad(mask, (0, missing))
