"""Counts the tokens of a caption as the student's text encoder would."""

from collections.abc import Callable
from typing import Literal

from lightgen.errors import ModelError
from lightgen.storage.weights import Weights, is_local, pinned

Count = Callable[[str], int]
Words = Literal["words"]


class TokenizerConfig(Weights):
    """A transformers tokenizer: of a local folder, all of whose files name it, or of a pinned commit of the hub."""

    @property
    def models(self) -> tuple[str, ...]:
        """See `Weights.models`: no weights are read."""
        return ()


def counter(tokenizer: Words | TokenizerConfig) -> Count:
    """The function that counts; `words` are separated by spaces. Raises ConfigError, ModelError."""
    if not isinstance(tokenizer, TokenizerConfig):
        return lambda text: len(text.split())
    known = _load(tokenizer)
    return lambda text: len(known(text)["input_ids"])


def _load(tokenizer: TokenizerConfig) -> Callable[[str], dict[str, list[int]]]:
    from transformers import AutoTokenizer

    revision = {} if is_local(tokenizer) else {"revision": pinned(tokenizer)}
    try:
        return AutoTokenizer.from_pretrained(
            tokenizer.model, subfolder=tokenizer.subfolder, local_files_only=is_local(tokenizer), **revision
        )
    except (OSError, ValueError) as error:
        raise ModelError(f"tokenizer {tokenizer.model}: cannot be used: {str(error)[:300]}") from None
