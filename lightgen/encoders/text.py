"""Text encoders: the closed union of their settings and what they all can do."""

from typing import Annotated, Any, Literal, Protocol

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from lightgen.encoders.t5 import T5Config, T5TextEncoder, t5_identity
from lightgen.encoders.words import WordsConfig, WordsEncoder

TextConfig = Annotated[WordsConfig | T5Config, Field(discriminator="kind")]


class TextEncoder(Protocol):
    """Captions to token vectors; values are rounded to the type that features keep."""

    dim: int
    identity: dict[str, Any]

    @property
    def storage(self) -> Literal["float16", "bfloat16"]:
        """The type that features keep."""
        ...

    def encode(self, captions: list[str]) -> list[Float[Tensor, "tokens dim"]]:
        """One float32 tensor on the CPU a caption, of its true length."""
        ...


def load_text(config: TextConfig, device: str) -> TextEncoder:
    """The encoder of these settings; raises ModelError or ConfigError where its weights cannot be used."""
    if isinstance(config, WordsConfig):
        return WordsEncoder(config)
    return T5TextEncoder(config, device)


def text_identity(config: TextConfig) -> dict[str, Any]:
    """What names a text encoder in a recipe; needs no weights in memory."""
    return t5_identity(config) if isinstance(config, T5Config) else {"kind": config.kind}
