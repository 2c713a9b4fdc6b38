"""Counts the tokens of a caption as the student's text encoder would."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, Self

from lightgen.encoders.tiny import WORDS, word_tokenizer
from lightgen.errors import ModelError
from lightgen.problems import Problem
from lightgen.storage.weights import Weights, folder_here, is_local, pinned

Count = Callable[[str], int]
FILES = ("tokenizer.json", "spiece.model", "tokenizer.model", "vocab.json")
Words = Literal["words"]


class TokenizerConfig(Weights):
    """A transformers tokenizer: of a local folder, all of whose files name it, or of a pinned commit of the hub."""

    @property
    def models(self) -> tuple[str, ...]:
        """See `Weights.models`: no weights are read."""
        return ()

    def rehearse(self, folder: Path) -> Self:
        """See `Config.rehearse`: a tokenizer of a few words."""
        own = self.own_folder(folder)
        if not own.exists():
            word_tokenizer(WORDS).save_pretrained(own)
        return self.model_copy(update={"model": str(own), "revision": None, "subfolder": ""})

    def problems(self) -> Iterator[Problem]:
        """See `Config.problems`."""
        yield from super().problems()
        folder = folder_here(self)
        if folder is not None and not any((folder / self.subfolder / name).is_file() for name in FILES):
            yield Problem(
                "here", "model", f"{folder / self.subfolder} holds no tokenizer", f"one of {', '.join(FILES)}"
            )


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
