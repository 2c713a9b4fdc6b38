"""Arithmetic of the student: floating-point operations of matrix products and attention; a multiply-add is two."""

from collections.abc import Sequence

from lightgen.model.config import StudentConfig
from lightgen.model.diffusion import STEPS, TIME_CHANNELS
from lightgen.model.masking import decode_counts
from lightgen.model.sampling import SampleConfig


def forward_flops(config: StudentConfig, tokens: int, hidden: int, words: float, rows: int) -> float:
    """Of one image: `tokens` of which `hidden` are masked, `words` of text, `rows` through the head (copies counted).

    With width D, head width w, token size t, T queries and K keys:
    self-block 24 D^2 T + 4 T^2 D; cross-attention 4 D^2 T + 4 D^2 K + 4 T K D; its MLP 16 D^2 T;
    head, a row: 2 t w + depth 10 w^2 + 4 w^2 + 4 w t, and 2 D w for each hidden token.
    """
    trunk = _trunk(config, tokens, tokens - hidden, [words]) + _reading(config, words)
    return text_flops(config, words) + trunk + _head(config, hidden, rows)


def text_flops(config: StudentConfig, words: float) -> float:
    """Of projecting and aligning a text of `words`, once for all images that are made of it."""
    d = config.width
    return 2 * words * (config.text_dim * d + d * d) + config.aligner_depth * _self_block(config, words)


def train_flops(config: StudentConfig, tokens: int, hidden: int, words: float, rows: int) -> float:
    """Of one image in training: the backward pass counts twice the forward one; recomputation does not count."""
    return 3 * forward_flops(config, tokens, hidden, words, rows)


def sample_flops(config: StudentConfig, sampling: SampleConfig, tokens: int, words: int, batch: int) -> float:
    """Of `batch` whole images drawn together from `words` of aligned text each, nothing being computed twice.

    Keys and values of a text count once, of the null text one word; every iteration has the trunk over the tokens known
    by then, and `head_steps` passes of the head over those it draws, for both halves of guidance. A sweep that draws
    them again has four such iterations, over a quarter of the tokens each, as grids of even sides have it.
    """
    texts = [words] if sampling.guidance == 1 else [words, 1]
    work, known = sum(_reading(config, each) for each in texts), 0
    counts = decode_counts(tokens, sampling.iterations)
    for count in counts:
        drawn = len(texts) * count
        work += _trunk(config, tokens, known, texts) + _head(config, drawn, drawn * sampling.head_steps)
        known += count
    work, passes = batch * work, len(counts) * sampling.head_steps
    if sampling.redraw is not None:
        drawn, turns = len(texts) * tokens / 4, 4 * sampling.redraw.sweeps
        head = _head(config, drawn, drawn * sampling.redraw.head_steps)
        work += batch * turns * (_trunk(config, tokens, tokens - tokens / 4, texts) + head)
        passes += turns * sampling.redraw.head_steps
    return work + passes * time_flops(config, 1)


def time_flops(config: StudentConfig, rows: int) -> float:
    """Of the time embedding of a batch of `rows`: from STEPS rows on every step is embedded once."""
    return 2 * min(rows, STEPS) * (TIME_CHANNELS + config.head_width) * config.head_width


def _trunk(config: StudentConfig, tokens: int, visible: float, texts: Sequence[float]) -> float:
    """Of the vectors of `tokens` under texts of so many words each, whose keys and values are at hand."""
    d = config.width
    shared = 2 * visible * config.token_dim * d + config.encoder_depth * _self_block(config, visible)
    shared += 2 * visible * d * d
    decoder = config.decoder_depth * _self_block(config, tokens)
    if config.text == "interleaved":
        return shared + sum(decoder + config.decoder_depth * _cross_attention(d, tokens, words) for words in texts)
    late = (config.text_depth * (_cross_attention(d, tokens, words) + _mlp(config, tokens)) for words in texts)
    return shared + decoder + 2 * tokens * d * d + sum(late)


def _reading(config: StudentConfig, words: float) -> float:
    """Of the keys and values of all blocks that attend to the text."""
    blocks = config.decoder_depth if config.text == "interleaved" else config.text_depth
    return blocks * 4 * config.width**2 * words


def _self_block(config: StudentConfig, tokens: float) -> float:
    d = config.width
    return 8 * d * d * tokens + 4 * tokens * tokens * d + _mlp(config, tokens)


def _mlp(config: StudentConfig, tokens: float) -> float:
    return 4 * config.width * int(config.width * config.mlp_ratio) * tokens


def _cross_attention(d: int, queries: int, keys: float) -> float:
    return 4 * d * d * queries + 4 * queries * keys * d


def _head(config: StudentConfig, hidden: float, rows: float) -> float:
    w, t = config.head_width, config.token_dim
    row = 2 * t * w + config.head_depth * 10 * w * w + 4 * w * w + 4 * w * t
    return 2 * hidden * config.width * w + rows * row
