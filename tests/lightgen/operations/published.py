"""The published model and its procedure of sampling, written in plain tensor operations: a reference for tests.

Names and order of operations follow models/fluid_arbitrary.py, models/utils.py, models/diffloss.py and diffusion/ of
github.com/XianfengWu01/LightGen at commit 2792991; nothing of lightgen is used. Imported by path.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Sizes:
    """Of a model small enough for tests."""

    width: int = 24
    heads: int = 3
    encoder: int = 2
    decoder: int = 1
    cross: int = 2
    aligner: int = 1
    head_width: int = 20
    head_depth: int = 2
    text: int = 24
    token: int = 16
    grid: int = 2


def random_weights(sizes: Sizes, seed: int) -> Weights:
    """Weights of every layer, none of them zero."""
    shapes: dict[str, tuple[int, ...]] = {}

    def linear(name: str, fan_in: int, fan_out: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (fan_out, fan_in), (fan_out,)

    def norm(name: str, width: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (width,), (width,)

    d, w = sizes.width, sizes.head_width

    def self_block(name: str) -> None:
        norm(f"{name}.norm1", d)
        linear(f"{name}.attn.qkv", d, 3 * d)
        linear(f"{name}.attn.proj", d, d)
        norm(f"{name}.norm2", d)
        linear(f"{name}.mlp.fc1", d, 4 * d)
        linear(f"{name}.mlp.fc2", 4 * d, d)

    linear("text_emb.text_proj.linear_1", sizes.text, d)
    linear("text_emb.text_proj.linear_2", d, d)
    for stack, depth in (
        ("text_emb.text_aligner", sizes.aligner), ("encoder_blocks", sizes.encoder), ("decoder_blocks", sizes.decoder),
    ):  # fmt: skip
        for number in range(depth):
            self_block(f"{stack}.{number}")
    for name in ("text_emb.text_aligner_norm", "z_proj_ln", "encoder_norm", "decoder_norm", "cross_norm"):
        norm(name, d)
    for number in range(sizes.cross):
        block = f"cross_attn_blocks.{number}"
        norm(f"{block}.normq", d)
        norm(f"{block}.normkv", d)
        linear(f"{block}.attn.query_linear", d, d)
        linear(f"{block}.attn.kv", d, 2 * d)
        linear(f"{block}.attn.proj", d, d)
        norm(f"{block}.norm2", d)
        linear(f"{block}.mlp.fc1", d, 4 * d)
        linear(f"{block}.mlp.fc2", 4 * d, d)
    linear("z_proj", sizes.token, d)
    linear("decoder_embed", d, d)
    linear("last_embed", d, d)
    for name in ("encoder_pos_embed_learned", "decoder_pos_embed_learned", "last_pos_embed_learned"):
        shapes[name] = (1, sizes.grid**2, d)
    shapes["mask_token"] = shapes["fake_latent"] = (1, 1, d)
    net = "diffloss.net"
    linear(f"{net}.time_embed.mlp.0", 256, w)
    linear(f"{net}.time_embed.mlp.2", w, w)
    linear(f"{net}.cond_embed", d, w)
    linear(f"{net}.input_proj", sizes.token, w)
    for number in range(sizes.head_depth):
        block = f"{net}.res_blocks.{number}"
        norm(f"{block}.in_ln", w)
        linear(f"{block}.mlp.0", w, w)
        linear(f"{block}.mlp.2", w, w)
        linear(f"{block}.adaLN_modulation.1", w, 3 * w)
    linear(f"{net}.final_layer.adaLN_modulation.1", w, 2 * w)
    linear(f"{net}.final_layer.linear", w, 2 * sizes.token)
    random = np.random.default_rng(seed)
    made = {}
    for name, shape in shapes.items():
        spread = 1.0 if "embed_learned" in name or name in ("mask_token", "fake_latent") else 0.15
        values = random.standard_normal(shape) * spread + (1.0 if "norm" in name and name.endswith("weight") else 0.0)
        made[name] = torch.from_numpy(values).float()
    return made


def text_states(weights: Weights, sizes: Sizes, states: Tensor) -> Tensor:
    """The aligner over all positions that T5 answered, padding among them: no mask."""
    x = _linear(weights, "text_emb.text_proj.linear_1", states)
    x = _linear(weights, "text_emb.text_proj.linear_2", F.gelu(x, approximate="tanh"))
    for number in range(sizes.aligner):
        x = _self_block(weights, f"text_emb.text_aligner.{number}", sizes.heads, x)
    return _norm(weights, "text_emb.text_aligner_norm", x)


def conditions(
    weights: Weights, sizes: Sizes, tokens: Tensor, mask: Tensor, text: Tensor, rows: int, columns: int
) -> Tensor:
    """z of all tokens [b, n, d]; `mask` is true where a token is hidden."""
    batch, count, _ = tokens.shape
    x = _linear(weights, "z_proj", tokens) + positions(weights["encoder_pos_embed_learned"], rows, columns)
    x = _norm(weights, "z_proj_ln", x)
    x = x[~mask].reshape(batch, -1, sizes.width)
    for number in range(sizes.encoder):
        x = _self_block(weights, f"encoder_blocks.{number}", sizes.heads, x)
    x = _linear(weights, "decoder_embed", _norm(weights, "encoder_norm", x))
    whole = weights["mask_token"].repeat(batch, count, 1)
    whole[~mask] = x.reshape(-1, sizes.width)
    x = whole + positions(weights["decoder_pos_embed_learned"], rows, columns)
    for number in range(sizes.decoder):
        x = _self_block(weights, f"decoder_blocks.{number}", sizes.heads, x)
    x = _linear(weights, "last_embed", _norm(weights, "decoder_norm", x))
    x = x + positions(weights["last_pos_embed_learned"], rows, columns)
    for number in range(sizes.cross):
        x = _cross_block(weights, f"cross_attn_blocks.{number}", sizes.heads, x, text)
    return _norm(weights, "cross_norm", x)


def positions(table: Tensor, rows: int, columns: int) -> Tensor:
    """The published interpolation: an offset of 0.1, and (columns, rows) where (rows, columns) was meant."""
    side = math.isqrt(table.shape[1])
    if (rows, columns) == (side, side):
        return table
    image = table.reshape(1, side, side, -1).permute(0, 3, 1, 2)
    factors = ((columns + 0.1) / side, (rows + 0.1) / side)
    resized = F.interpolate(image, scale_factor=factors, mode="bicubic")
    assert tuple(resized.shape[-2:]) == (columns, rows)
    return resized.permute(0, 2, 3, 1).reshape(1, rows * columns, -1)


def sample(
    weights: Weights,
    sizes: Sizes,
    states: Tensor,
    seed: int,
    rows: int,
    columns: int,
    iterations: int,
    scale: float,
    head_steps: int,
) -> Tensor:
    """Tokens [n, t] of one image, its random numbers in the order in which lightgen takes them from its seed.

    A permutation, whose first tokens are drawn first; then for each iteration, start noise and a slice for each step.
    """
    count = rows * columns
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(count, generator=generator)
    text = torch.cat([text_states(weights, sizes, states), weights["fake_latent"].expand(1, states.shape[1], -1)])
    tokens, mask = torch.zeros(1, count, sizes.token), torch.ones(1, count, dtype=torch.bool)
    for step in range(iterations):
        z = conditions(weights, sizes, tokens.repeat(2, 1, 1), mask.repeat(2, 1), text, rows, columns)
        keep = max(
            1.0, min(mask.sum().item() - 1.0, math.floor(count * math.cos(math.pi / 2 * (step + 1) / iterations)))
        )
        after = torch.zeros_like(mask)
        after[0, order[count - int(keep) :]] = True
        drawn = mask.clone() if step == iterations - 1 else mask ^ after
        chosen = [int(place) for place in order if drawn[0, place]]
        noise = torch.randn(1 + head_steps, len(chosen), sizes.token, generator=generator)
        tokens = tokens.clone()
        tokens[0, chosen] = denoise(weights, sizes, z[:, chosen], noise, scale, head_steps)
        mask = after
    return tokens[0]


def denoise(weights: Weights, sizes: Sizes, z: Tensor, noise: Tensor, scale: float, head_steps: int) -> Tensor:
    """Ancestral sampling of [with text, without], on respaced steps with learned variance; the former is returned."""
    bars = np.cumprod(1 - _cosine_betas())
    spaced = [round(i * (1000 - 1) / (head_steps - 1)) for i in range(head_steps)]
    bars = bars[spaced]
    before = np.append(1.0, bars[:-1])
    betas = 1 - bars / before
    variance = betas * (1 - before) / (1 - bars)
    low = np.log(np.append(variance[1], variance[1:]))
    x = noise[0]
    for i in reversed(range(head_steps)):
        output = torch.stack([_head(weights, sizes, x, spaced[i], one) for one in z])
        eps, raw = output.split(sizes.token, dim=-1)
        guided = eps[1] + scale * (eps[0] - eps[1])
        x0 = math.sqrt(1 / bars[i]) * x - math.sqrt(1 / bars[i] - 1) * guided
        mean = betas[i] * math.sqrt(before[i]) / (1 - bars[i]) * x0
        mean = mean + (1 - before[i]) * math.sqrt(1 - betas[i]) / (1 - bars[i]) * x
        fraction = (raw[0] + 1) / 2
        log_variance = fraction * math.log(betas[i]) + (1 - fraction) * low[i]
        x = mean + (torch.exp(0.5 * log_variance) * noise[1 + i] if i > 0 else 0.0)
    return x


def latents(tokens: Tensor, rows: int, columns: int, channels: int, patch: int = 2) -> Tensor:
    """Tokens whose numbers stand in the order channel, row, column, as a picture of latents."""
    blocks = tokens.reshape(1, rows, columns, channels, patch, patch)
    return torch.einsum("nhwcpq->nchpwq", blocks).reshape(1, channels, rows * patch, columns * patch)


def _cosine_betas() -> np.ndarray:
    def bar(t: float) -> float:
        return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

    return np.array([min(1 - bar((i + 1) / 1000) / bar(i / 1000), 0.999) for i in range(1000)])


def _head(weights: Weights, sizes: Sizes, x: Tensor, time: int, z: Tensor) -> Tensor:
    net = "diffloss.net"
    frequencies = torch.exp(-math.log(10000) * torch.arange(128, dtype=torch.float32) / 128)
    angles = time * frequencies
    embedded = torch.cat([angles.cos(), angles.sin()])
    embedded = _linear(
        weights, f"{net}.time_embed.mlp.2", F.silu(_linear(weights, f"{net}.time_embed.mlp.0", embedded))
    )
    y = embedded + _linear(weights, f"{net}.cond_embed", z)
    x = _linear(weights, f"{net}.input_proj", x)
    for number in range(sizes.head_depth):
        block = f"{net}.res_blocks.{number}"
        shift, gain, gate = _linear(weights, f"{block}.adaLN_modulation.1", F.silu(y)).chunk(3, dim=-1)
        hidden = _norm(weights, f"{block}.in_ln", x) * (1 + gain) + shift
        x = x + gate * _linear(weights, f"{block}.mlp.2", F.silu(_linear(weights, f"{block}.mlp.0", hidden)))
    shift, gain = _linear(weights, f"{net}.final_layer.adaLN_modulation.1", F.silu(y)).chunk(2, dim=-1)
    return _linear(weights, f"{net}.final_layer.linear", F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + gain) + shift)


def _self_block(weights: Weights, name: str, heads: int, x: Tensor) -> Tensor:
    normed = _norm(weights, f"{name}.norm1", x)
    query, key, value = _linear(weights, f"{name}.attn.qkv", normed).chunk(3, dim=-1)
    x = x + _linear(weights, f"{name}.attn.proj", _attention(query, key, value, heads))
    return x + _mlp(weights, name, x)


def _cross_block(weights: Weights, name: str, heads: int, x: Tensor, text: Tensor) -> Tensor:
    query = _norm(weights, f"{name}.normq", x)
    words = _norm(weights, f"{name}.normkv", text)
    key, value = _linear(weights, f"{name}.attn.kv", words).chunk(2, dim=-1)
    asked = _linear(weights, f"{name}.attn.query_linear", query)
    x = query + _linear(weights, f"{name}.attn.proj", _attention(asked, key, value, heads))  # the skip after the norm
    return x + _mlp(weights, name, x)


def _mlp(weights: Weights, name: str, x: Tensor) -> Tensor:
    hidden = F.gelu(_linear(weights, f"{name}.mlp.fc1", _norm(weights, f"{name}.norm2", x)))
    return _linear(weights, f"{name}.mlp.fc2", hidden)


def _attention(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    parts = []
    for q, k, v in zip(*(one.chunk(heads, dim=-1) for one in (query, key, value)), strict=True):
        parts.append((q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])).softmax(dim=-1) @ v)
    return torch.cat(parts, dim=-1)


def _linear(weights: Weights, name: str, x: Tensor) -> Tensor:
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def _norm(weights: Weights, name: str, x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-6)
