"""Memory of training by formula: what is kept for the backward pass, and what every parameter takes.

Bytes a token of each part of a block, for a width of one: the input of each norm in float32, the bfloat16 inputs of
matrix products, queries, keys, values and output of an attention in float32, and masks of dropout.
"""

from lightgen.model.config import StudentConfig

# Weights, gradients, EMA and two moments in float32, and the bfloat16 copy that autocast keeps for a microbatch.
STATE_BYTES, CAST_BYTES = 20, 2
ATTENTION, CROSS_ATTENTION, CROSS_WORD, MLP, INPUT = 26, 18, 10, 24, 4
HEAD_BLOCK, HEAD_REST = 24, 20
TOKEN_REST = 60  # targets, errors and the variance bound, for each number of a token


def activation_bytes(
    config: StudentConfig, tokens: int, hidden: int, words: int, copies: int, recompute: bool = False
) -> float:
    """Kept for the backward pass of one image of `tokens`, `hidden` of them masked, with `copies` noise levels each.

    With `recompute` of the blocks only their inputs are, but for those of the head, which are not computed again.
    """
    block = INPUT if recompute else ATTENTION + MLP
    hearing, heard = (0, 0) if recompute else (CROSS_ATTENTION, CROSS_WORD)
    seen = config.encoder_depth * block * (tokens - hidden) + config.aligner_depth * block * words
    decoder = config.decoder_depth * block * tokens
    if config.text == "interleaved":
        decoder += config.decoder_depth * (hearing * tokens + heard * words)
    else:
        late = INPUT if recompute else CROSS_ATTENTION + MLP
        decoder += config.text_depth * (late * tokens + heard * words)
    return config.width * (seen + decoder) + _head_bytes(config, copies * hidden)


def state_bytes(parameters: int, shards: int = 1) -> float:
    """Taken in each process by the model in training, cut into `shards` under FSDP."""
    return parameters * (STATE_BYTES / shards + CAST_BYTES)


def forward_bytes(config: StudentConfig, tokens: int, hidden: int, words: int, copies: int) -> float:
    """At most alive at once in a forward pass over one image that keeps nothing: one block of trunk or head."""
    trunk = config.width * ((ATTENTION + CROSS_ATTENTION + MLP) * tokens + CROSS_WORD * words)
    rows = copies * hidden
    return max(trunk, rows * (config.head_width * (HEAD_BLOCK + HEAD_REST) + TOKEN_REST * config.token_dim))


def _head_bytes(config: StudentConfig, rows: int) -> float:
    of_width = config.head_width * (config.head_depth * HEAD_BLOCK + HEAD_REST)
    return rows * (of_width + TOKEN_REST * config.token_dim)
