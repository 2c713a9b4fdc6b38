"""Arithmetic of the student: floating-point operations of matrix products and attention; a multiply-add is two."""

from lightgen.model.config import StudentConfig
from lightgen.model.diffusion import STEPS, TIME_CHANNELS


def forward_flops(config: StudentConfig, tokens: int, hidden: int, words: int, rows: int) -> float:
    """Of one image: `tokens` of which `hidden` are masked, `words` of text, `rows` through the head (copies counted).

    With width D, head width w, token size t, T queries and K keys:
    self-block 24 D^2 T + 4 T^2 D; cross-attention 4 D^2 T + 4 D^2 K + 4 T K D; its MLP 16 D^2 T;
    head, a row: 2 t w + depth 10 w^2 + 4 w^2 + 4 w t, and 2 D w for each hidden token.
    """
    d, visible, t = config.width, tokens - hidden, config.token_dim
    text = 2 * words * (config.text_dim * d + d * d) + config.aligner_depth * _self_block(config, words)
    trunk = 2 * visible * t * d + config.encoder_depth * _self_block(config, visible)
    trunk += 2 * visible * d * d + config.decoder_depth * _self_block(config, tokens)
    if config.text == "interleaved":
        trunk += config.decoder_depth * _cross_attention(d, tokens, words)
    else:
        block = _cross_attention(d, tokens, words) + _mlp(config, tokens)
        trunk += 2 * tokens * d * d + config.text_depth * block
    return text + trunk + _head(config, hidden, rows)


def train_flops(config: StudentConfig, tokens: int, hidden: int, words: int, rows: int) -> float:
    """Of one image in training: the backward pass counts twice the forward one; recomputation does not count."""
    return 3 * forward_flops(config, tokens, hidden, words, rows)


def time_flops(config: StudentConfig, rows: int) -> float:
    """Of the time embedding of a batch of `rows`: from STEPS rows on every step is embedded once."""
    return 2 * min(rows, STEPS) * (TIME_CHANNELS + config.head_width) * config.head_width


def _self_block(config: StudentConfig, tokens: int) -> float:
    d = config.width
    return 8 * d * d * tokens + 4 * tokens * tokens * d + _mlp(config, tokens)


def _mlp(config: StudentConfig, tokens: int) -> float:
    return 4 * config.width * int(config.width * config.mlp_ratio) * tokens


def _cross_attention(d: int, queries: int, keys: int) -> float:
    return 4 * d * d * queries + 4 * d * d * keys + 4 * queries * keys * d


def _head(config: StudentConfig, hidden: int, rows: int) -> float:
    w, t = config.head_width, config.token_dim
    row = 2 * t * w + config.head_depth * 10 * w * w + 4 * w * w + 4 * w * t
    return 2 * hidden * config.width * w + rows * row
