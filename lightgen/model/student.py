"""The student: a masked auto-regressive transformer whose tokens are finished by a small diffusion head."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from lightgen.model.blocks import (
    CrossBlock,
    InterleavedBlock,
    KeyValue,
    SelfBlock,
    Words,
    apply_block,
    init_linear,
    norm,
)
from lightgen.model.config import StudentConfig
from lightgen.model.diffusion import DenoisingErrors, DiffusionHead, every_time, tables
from lightgen.model.masking import gather_tokens, scatter_tokens
from lightgen.model.positions import PositionTable

COMPILED_SHAPES = 1024  # kinds of block x lengths x modes that are kept compiled; a run in whole needs some hundred


@dataclass(frozen=True)
class Grid:
    """Rows and columns of tokens."""

    rows: int
    columns: int

    @property
    def tokens(self) -> int:
        """Number of tokens."""
        return self.rows * self.columns


class Text(NamedTuple):
    """Aligned text vectors; `keep` marks the true tokens, None keeps all.

    `read`: what each text block reads of them, where `Student.read` has computed it for many passes.
    """

    tokens: Float[Tensor, "b l d"]
    keep: Bool[Tensor, "b l"] | None
    read: tuple[KeyValue, ...] = ()


class TextPath(nn.Module):
    """Projects the text encoder's vectors to the trunk's width and aligns them (model_facts 1.3)."""

    def __init__(self, config: StudentConfig) -> None:
        super().__init__()
        self.attend_padding, self.scale = config.attend_padding, config.text_scale
        self.project_in = nn.Linear(config.text_dim, config.width)
        self.project_out = nn.Linear(config.width, config.width)
        self.positions = (
            nn.Parameter(torch.empty(config.text_positions, config.width)) if config.text_positions else None
        )
        self.blocks = nn.ModuleList(
            SelfBlock(config.width, config.heads, config.mlp_ratio, config.dropout) for _ in range(config.aligner_depth)
        )
        self.norm = norm(config.width)
        self.recompute = False

    def forward(self, text: Float[Tensor, "b l t"], keep: Bool[Tensor, "b l"]) -> Text:
        seen = None if self.attend_padding else keep
        x = self.project_out(F.gelu(self.project_in(text * self.scale), approximate="tanh"))
        if self.positions is not None:
            # Word order is lost on encoders without positions; beyond the table the last position repeats.
            index = torch.arange(text.shape[1], device=text.device).clamp(max=len(self.positions) - 1)
            x = x + self.positions[index]
        for block in self.blocks:
            x = apply_block(block, self.recompute, x, seen)
        return Text(self.norm(x), seen)


class Student(nn.Module):
    """Encoder over visible tokens, decoder over all, text by cross-attention, diffusion head for single tokens."""

    def __init__(self, config: StudentConfig) -> None:
        super().__init__()
        self.config = config
        width, sizes = config.width, (config.width, config.heads, config.mlp_ratio, config.dropout)
        self.text = TextPath(config)
        self.null_text = nn.Parameter(torch.empty(1, 1, width))
        self.token_in, self.token_norm = nn.Linear(config.token_dim, width), norm(width)
        self.encoder_positions = self._table()
        self.encoder = nn.ModuleList(SelfBlock(*sizes) for _ in range(config.encoder_depth))
        self.encoder_norm = norm(width)
        self.decoder_in, self.decoder_positions = nn.Linear(width, width), self._table()
        self.mask_token = nn.Parameter(torch.empty(1, 1, width))
        decoder = InterleavedBlock if config.text == "interleaved" else SelfBlock
        self.decoder = nn.ModuleList(decoder(*sizes) for _ in range(config.decoder_depth))
        self.decoder_norm = norm(width)
        if config.text == "late":
            self.late_in, self.late_positions = nn.Linear(width, width), self._table()
            self.late = nn.ModuleList(CrossBlock(*sizes, config.skip_after_norm) for _ in range(config.text_depth))
            self.late_norm = norm(width)
        self.head = DiffusionHead(config.token_dim, config.head_width, config.head_depth, width)
        self.errors = DenoisingErrors(config.prediction)

    def _table(self) -> PositionTable:
        return PositionTable(self.config.grid, self.config.width, self.config.quirky_positions)

    @property
    def recompute(self) -> bool:
        """Whether activations inside blocks are computed again in the backward pass: slower, in less memory."""
        return self.text.recompute

    @recompute.setter
    def recompute(self, value: bool) -> None:
        self.text.recompute = value

    @property
    def text_blocks(self) -> list[CrossBlock | InterleavedBlock]:
        """Blocks that attend to the text."""
        blocks = self.decoder if self.config.text == "interleaved" else self.late
        return [block for block in blocks if isinstance(block, CrossBlock | InterleavedBlock)]

    def blocks(self) -> list[nn.Module]:
        """All repeated blocks, of aligner, trunk and head: what is sharded as one piece."""
        return [*self._attending_blocks(), *self.head.blocks]

    def _attending_blocks(self) -> list[nn.Module]:
        late = [] if self.config.text == "interleaved" else self.late
        return [*self.text.blocks, *self.encoder, *self.decoder, *late]

    def compile_pieces(self, backend: str | Callable[..., object] = "inductor") -> Self:
        """Compile in place each block of aligner and trunk, and noise, head and errors as one piece; returns itself.

        A kind of block is compiled once for each shape, however many there are. Names of parameters stay. Raises
        torch's limits on compilations in this process.
        """
        from torch._dynamo import config as limits  # costs a second

        for constant in (tables, every_time):
            torch.compiler.assume_constant_result(constant)
        limits.recompile_limit = max(limits.recompile_limit, COMPILED_SHAPES)
        # All blocks share one code object, `Module._call_impl`, to which this second limit applies.
        limits.accumulated_recompile_limit = max(limits.accumulated_recompile_limit, COMPILED_SHAPES)
        for piece in [*self._attending_blocks(), self.errors]:
            piece.compile(backend=backend, dynamic=False)
        return self

    def init(self, seed: int) -> "Student":
        """Fresh weights, a pure function of `seed`; returns itself."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.apply(init_linear)
            self.head.init()
            for name, parameter in self.named_parameters():
                if name.endswith((".table", "mask_token", "null_text", "text.positions")):
                    nn.init.normal_(parameter, std=self.config.init_std)
        return self

    def drop_text(self, text: Text, drop: Bool[Tensor, " b"]) -> Text:
        """`text` with the null vector in place of the dropped samples."""
        return Text(torch.where(drop[:, None, None], self.null_text, text.tokens), text.keep)

    def without_text(self, batch: int) -> Text:
        """The null condition: its keys are all equal, so one stands for any number."""
        return Text(self.null_text.expand(batch, 1, -1), None)

    def read(self, text: Text) -> Text:
        """`text` with the keys and values of every text block, so that `conditions` need not compute them each time."""
        return text._replace(read=tuple(block.read(text.tokens) for block in self.text_blocks))

    def encode(self, tokens: Float[Tensor, "b n t"], visible: Int[Tensor, "b v"], grid: Grid) -> Float[Tensor, "b v d"]:
        """Vectors of the visible tokens."""
        # No token at all goes the same way: parameters without a gradient would let other ranks wait for ever.
        x = self.token_in(gather_tokens(tokens, visible))
        x = self.token_norm(x + self._positions_at(self.encoder_positions, visible, grid))
        return self.encoder_norm(self._through(self.encoder, x))

    def conditions(
        self, encoded: Float[Tensor, "b v d"], visible: Int[Tensor, "b v"], grid: Grid, *texts: Text
    ) -> list[Float[Tensor, "b n d"]]:
        """Vectors z of all tokens under each of `texts`; what does not depend on the text is computed once."""
        base = self.mask_token.expand(len(visible), grid.tokens, -1)
        base = scatter_tokens(base, visible, self.decoder_in(encoded)) + self.decoder_positions(grid.rows, grid.columns)
        if self.config.text == "interleaved":
            return [self.decoder_norm(self._hearing(base, text)) for text in texts]
        base = self.decoder_norm(self._through(self.decoder, base))
        base = self.late_in(base) + self.late_positions(grid.rows, grid.columns)
        return [self.late_norm(self._hearing(base, text)) for text in texts]

    def _through(self, blocks: Iterable[nn.Module], x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        for block in blocks:
            x = apply_block(block, self.recompute, x)
        return x

    def _hearing(self, x: Float[Tensor, "b n d"], text: Text) -> Float[Tensor, "b n d"]:
        blocks = self.text_blocks
        words: Sequence[Words] = text.read or [text.tokens] * len(blocks)
        for block, heard in zip(blocks, words, strict=True):
            x = apply_block(block, self.recompute, x, heard, text.keep)
        return x

    @staticmethod
    def _positions_at(table: PositionTable, index: Int[Tensor, "b v"], grid: Grid) -> Float[Tensor, "b v d"]:
        return table(grid.rows, grid.columns)[0][index]


def parameter_count(config: StudentConfig) -> int:
    """Exact number of parameters, without allocating them."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in Student(config).parameters())
