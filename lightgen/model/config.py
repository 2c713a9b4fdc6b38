"""Sizes of the student, and the named ones whose parameter counts are known exactly."""

from typing import Literal

from pydantic import Field, model_validator

from lightgen.config import Config

TextPlacement = Literal["late", "interleaved"]
Prediction = Literal["noise", "velocity", "sample"]


class StudentConfig(Config):
    """Shape of the masked auto-regressive student; the defaults are the paper's 0.7B (model_facts 1.8)."""

    width: int = Field(default=1024, gt=0, description="channels of the trunk")
    heads: int = Field(default=16, gt=0, description="of every attention of the trunk")
    encoder_depth: int = Field(default=16, ge=0, description="blocks over the visible tokens")
    decoder_depth: int = Field(default=16, ge=1, description="blocks over all tokens")
    text_depth: int = Field(
        default=16, ge=0, description="cross-attention blocks after the decoder; only for text: late"
    )
    aligner_depth: int = Field(default=6, ge=0, description="self-attention blocks over the text")
    head_width: int = Field(default=1024, gt=0, description="channels of the diffusion MLP")
    head_depth: int = Field(default=3, ge=0, description="residual blocks of the diffusion MLP")
    text_dim: int = Field(default=4096, gt=0, description="channels of the text encoder's vectors")
    text_scale: float = Field(
        default=1.0, gt=0, description="factor of the vectors; sqrt(text_dim) for unit-length ones"
    )
    text: TextPlacement = Field(
        default="late", description="late: cross-attention after the decoder; interleaved: in each of its blocks"
    )
    text_positions: int = Field(default=0, ge=0, description="learned positions added to the text; 0: none, as for T5")
    latent_channels: int = Field(default=16, gt=0, description="of the VAE")
    patch: int = Field(default=2, gt=0, description="latent pixels a token side")
    grid: int = Field(default=16, gt=0, description="side of the learned position tables, in tokens")
    init_std: float = Field(default=0.02, gt=0, description="spread of fresh position tables, mask token, null text")
    mlp_ratio: float = Field(default=4.0, gt=0, description="width of a block's MLP over the trunk's")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="in training, of attentions and residual branches")
    prediction: Prediction = Field(
        default="noise", description="what the head predicts: see diffusion.prediction_error"
    )
    text_drop: float = Field(default=0.1, ge=0, le=1, description="share of samples trained without their caption")
    attend_padding: bool = Field(
        default=False, description="compat: attend padded text positions as if they were words"
    )
    skip_after_norm: bool = Field(
        default=True, description="compat: residual of the late text blocks starts after the norm"
    )
    quirky_positions: bool = Field(
        default=False, description="compat: interpolation offset and transposed non-square grids"
    )

    @model_validator(mode="after")
    def _consistent(self) -> "StudentConfig":
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        if self.text == "interleaved" and self.text_depth:
            raise ValueError("text: interleaved has no blocks after the decoder, so text_depth must be 0")
        return self

    @property
    def token_dim(self) -> int:
        """Numbers a token: channels x patch x patch."""
        return self.latent_channels * self.patch**2


def _ci(width: int, depth: int, aligner: int, head: tuple[int, int], text_dim: int) -> StudentConfig:
    """A small student of equal depths; `head` is (depth, width)."""
    return StudentConfig(
        width=width, heads=4, encoder_depth=depth, decoder_depth=depth, text_depth=depth, aligner_depth=aligner,
        head_depth=head[0], head_width=head[1], text_dim=text_dim,
    )  # fmt: skip


_PAPER = StudentConfig()
_COMPAT = {"attend_padding": True, "quirky_positions": True}

PRESETS: dict[str, StudentConfig] = {
    "lightgen-0.7b": _PAPER,
    "lightgen-official": _PAPER.model_copy(update={"head_depth": 8, "head_width": 1536, **_COMPAT}),
    "lightgen-0.7b-alt": _PAPER.model_copy(update={"encoder_depth": 12, "head_depth": 8, "head_width": 1280}),
    "ci-small": _ci(256, 4, 2, (3, 256), 512),
    "ci-tiny": _ci(64, 2, 1, (2, 64), 64),
}
