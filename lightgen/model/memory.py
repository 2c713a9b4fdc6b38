"""Memory of training by formula: what is kept for the backward pass, and what every parameter takes.

Activations are counted as a GPU keeps them, where attention keeps its inputs and its output. `product` is the size of
an input of a matrix product: 2 bytes in bfloat16, 4 in float32 or TF32. Inputs of norms are float32. A mask of dropout
has a byte for each number, and is kept only in training with dropout. What the allocator adds is not in it.
"""

from dataclasses import dataclass

from lightgen.model.config import StudentConfig

FLOAT = 4  # bytes of a float32
# Weights, gradients, EMA and two moments in float32, and the bfloat16 copy that autocast keeps for a microbatch.
STATE_BYTES, CAST_BYTES = 20, 2
BOUND = 66  # the variance bound, for each number of a token
DRAWING = 24  # of random numbers while they are drawn, for each


@dataclass(frozen=True)
class Activations:
    """What a forward pass keeps of images of `tokens` tokens with texts of `words`, each hidden token `copies` times.

    With `recompute` of the blocks only their inputs are kept, but for those of the head, which are not computed again.
    `bound`: the variance of the sampler is trained too.
    """

    config: StudentConfig
    tokens: int
    words: int
    copies: int
    product: int = 2
    dropout: bool = True
    bound: bool = True
    recompute: bool = False

    def text(self) -> float:
        """Of one text, which is aligned once for all images that are made of it."""
        width, aligner = self.config.width, self.config.aligner_depth * self._kept(self._self_block)
        return self.words * (self.config.text_dim * self.product + width * (2 * self.product + FLOAT + aligner))

    def image(self, hidden: int) -> float:
        """Of one image without its text, `hidden` tokens of it masked."""
        config, visible = self.config, self.tokens - hidden
        ends = FLOAT + self.product  # a norm and the product behind it
        encoder = visible * (config.encoder_depth * self._kept(self._self_block) + FLOAT + ends)
        decoder = self.tokens * (config.decoder_depth * self._kept(self._decoder_block) + FLOAT)
        heard = 0 if self.recompute else 3 * self.product * self.words * self._hearing
        late = 0.0
        if config.text == "late":
            late = self.tokens * (config.text_depth * self._kept(self._cross + self._mlp) + ends)
        return config.width * (encoder + decoder + heard + late + self.product * hidden) + self._head(hidden)

    def block(self) -> float:
        """Of one block of the trunk over all tokens: kept again for a moment where blocks are recomputed."""
        return self.config.width * self.tokens * self._decoder_block

    def forward(self, hidden: int) -> float:
        """At most alive at once in a pass over one image and its text that keeps nothing: a block of trunk or head."""
        rows, config = self.copies * hidden, self.config
        text = self.words * (FLOAT * config.text_dim + FLOAT * config.width)
        drawn = rows * config.token_dim * 2 * FLOAT
        trunk = config.width * ((self._decoder_block + FLOAT) * self.tokens + 3 * self.product * self.words)
        head = rows * (config.head_width * (10 * self.product + FLOAT) + config.token_dim * 4 * FLOAT)
        return text + drawn + max(trunk, head, rows * config.token_dim * DRAWING)

    @property
    def _mask(self) -> int:
        return int(self.dropout and self.config.dropout > 0)

    @property
    def _self_block(self) -> float:
        return FLOAT + 5 * self.product + self._mask + self._mlp

    @property
    def _decoder_block(self) -> float:
        return self._self_block + (self._cross if self.config.text == "interleaved" else 0)

    @property
    def _cross(self) -> float:
        return FLOAT + 3 * self.product + self._mask

    @property
    def _mlp(self) -> float:
        ratio = self.config.mlp_ratio  # hidden numbers are dropped too
        return FLOAT + self.product * (1 + 2 * ratio) + self._mask * (1 + ratio)

    @property
    def _hearing(self) -> int:
        return self.config.decoder_depth if self.config.text == "interleaved" else self.config.text_depth

    def _kept(self, block: float) -> float:
        return FLOAT if self.recompute else block

    def _head(self, hidden: int) -> float:
        config, rows = self.config, self.copies * hidden
        of_token = FLOAT + 4 * self.product + (BOUND if self.bound else 0)
        return rows * (config.head_width * self.product * (10 * config.head_depth + 7) + config.token_dim * of_token)


def state_bytes(parameters: int, shards: int = 1, product: int = 2) -> float:
    """Taken in each process by the model in training, cut into `shards` under FSDP."""
    return parameters * (STATE_BYTES / shards + (CAST_BYTES if product == CAST_BYTES else 0))
