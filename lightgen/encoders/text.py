"""Text encoders: the closed union of their settings and what they all can do."""

from typing import Annotated, Any, Literal, Protocol

from jaxtyping import Float
from pydantic import Field, TypeAdapter
from torch import Tensor

from lightgen.encoders.t5 import T5Config
from lightgen.encoders.words import WordsConfig
from lightgen.errors import ConfigError
from lightgen.storage.locations import locate
from lightgen.storage.store import Store

TextConfig = Annotated[WordsConfig | T5Config, Field(discriminator="kind")]
TEXT_CONFIG: TypeAdapter[WordsConfig | T5Config] = TypeAdapter(TextConfig)


class TextEncoder(Protocol):
    """Captions to token vectors; values are rounded to the type that features keep."""

    dim: int

    @property
    def storage(self) -> Literal["float16", "bfloat16"]:
        """The type that features keep."""
        ...

    @property
    def padded(self) -> bool:
        """Whether every caption gets as many vectors: its own, then those that the encoder answers at padding."""
        ...

    def encode(self, captions: list[str]) -> list[Float[Tensor, "tokens dim"]]:
        """One float32 tensor on the CPU a caption, of its true length unless `padded`."""
        ...


def check_padding(attend_padding: bool, padded: bool) -> None:
    """Refuse a student that attends padding which its text encoder does not give.

    Zeros up to the longest text of a batch would stand in, and what lies beside a text would change its image.
    """
    if attend_padding and not padded:
        raise ConfigError(
            "the student attends padding (student.attend_padding), but its text encoder gives none: "
            "use {kind: t5, padded: true}, or train with attend_padding: false"
        )


def text_of_identity(identity: dict[str, Any], store: Store) -> WordsConfig | T5Config:
    """The settings of an encoder that a version names. Raises ModelError where its weights are not found."""
    settings = {name: value for name, value in identity.items() if name not in ("revision", "weights")}
    place = locate(store, identity["weights"]) if "weights" in identity else {}
    return TEXT_CONFIG.validate_python({**settings, **place})
