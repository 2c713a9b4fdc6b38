"""Memory of training by formula: what is kept for the backward pass, and what every parameter takes.

Bytes a token of each kind of block, for a width of one: the input of each norm in float32, the bfloat16 inputs of the
matrix products, queries, keys, values and output of an attention as fused kernels keep them, and masks of dropout.
"""

from lightgen.model.config import StudentConfig

# Weights, gradients, EMA and two moments in float32, and the bfloat16 copy that autocast keeps for a microbatch.
STATE_BYTES, CAST_BYTES = 20, 2
SELF_BLOCK, CROSS_BLOCK, CROSS_WORD, INPUT = 50, 42, 10, 4
HEAD_BLOCK, HEAD_REST = 24, 20
TOKEN_REST = 60  # targets, errors and the variance bound, for each number of a token


def activation_bytes(
    config: StudentConfig, tokens: int, hidden: int, words: int, copies: int, recompute: bool = False
) -> float:
    """Kept for the backward pass of one image of `tokens`, `hidden` of them masked, with `copies` noise levels each."""
    d, visible = config.width, tokens - hidden
    block = INPUT if recompute else SELF_BLOCK
    trunk = config.encoder_depth * block * visible + config.decoder_depth * block * tokens
    reading = config.decoder_depth if config.text == "interleaved" else config.text_depth
    if not recompute:
        trunk += reading * (CROSS_BLOCK * tokens + CROSS_WORD * words)
    elif config.text == "late":
        trunk += reading * INPUT * tokens
    text = config.aligner_depth * block * words
    return d * (trunk + text) + _head_bytes(config, copies * hidden)


def state_bytes(parameters: int, shards: int = 1) -> float:
    """Taken in each process by the model in training, cut into `shards` under FSDP."""
    return parameters * (STATE_BYTES / shards + CAST_BYTES)


def forward_bytes(config: StudentConfig, tokens: int, hidden: int, words: int, copies: int) -> float:
    """At most alive at once in a forward pass over one image that keeps nothing: one block of trunk or head."""
    trunk = config.width * (SELF_BLOCK * tokens + CROSS_WORD * words)
    rows = copies * hidden
    return max(trunk, rows * (config.head_width * (HEAD_BLOCK + HEAD_REST) + TOKEN_REST * config.token_dim))


def _head_bytes(config: StudentConfig, rows: int) -> float:
    of_width = config.head_width * (config.head_depth * HEAD_BLOCK + HEAD_REST)
    return rows * (of_width + TOKEN_REST * config.token_dim)
