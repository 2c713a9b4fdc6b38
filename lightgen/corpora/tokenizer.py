"""Counts the tokens of a caption as the student's text encoder would."""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions when it is imported, where pyright does not see them.

import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Protocol, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int32

from lightgen.encoders.tiny import WORDS, word_tokenizer
from lightgen.errors import ModelError, ModelIncomplete
from lightgen.storage.networks import check_words, library_errors, load_tokenizer
from lightgen.storage.weights import Weights, is_local, pinned

Count = Callable[[str], int]
FILES = ("tokenizer.json", "spiece.model", "tokenizer.model", "vocab.json", "vocab.txt")
Words = Literal["words"]


class TokenizerConfig(Weights):
    """A transformers tokenizer: of a local folder, all of whose files name it, or of a pinned commit of the hub."""

    @property
    def models(self) -> tuple[str, ...]:
        """See `Weights.models`: no weights are read."""
        return ()

    def look(self, root: Path) -> None:
        """See `Weights.look`."""
        folder = root / self.subfolder
        if not any((folder / name).is_file() for name in FILES):
            raise ModelIncomplete(f"{folder} holds no tokenizer: none of {', '.join(FILES)}")
        read_tokenizer(self, root)

    def rehearse(self, folder: Path) -> Self:
        """See `Config.rehearse`: a tokenizer of a few words."""
        own = self.own_folder(folder)
        if not own.exists():
            word_tokenizer(WORDS).save_pretrained(own)
        return self.model_copy(update={"model": str(own), "revision": None, "subfolder": ""})


class CountAll(Protocol):
    """Counts the tokens of a text, or of each of many at once. Those are repaired: between words is one space."""

    def __call__(self, text: str) -> int: ...
    def all(self, texts: pa.LargeStringArray) -> Int32[np.ndarray, " n"]: ...
    def starts(self, text: str) -> tuple[list[int], int]:
        """Where in a text its tokens begin, and how many marks of beginning and end there are besides."""
        ...


class WordCount:
    """Counts what stands between spaces."""

    def __call__(self, text: str) -> int:
        return len(text.split())

    def all(self, texts: pa.LargeStringArray) -> Int32[np.ndarray, " n"]:
        """See `CountAll`."""
        return pc.count_substring(texts, " ").to_numpy(zero_copy_only=False).astype(np.int32) + 1

    def starts(self, text: str) -> tuple[list[int], int]:
        """See `CountAll`."""
        return [found.start() for found in re.finditer(r"\S+", text)], 0


class TokenCount:
    """Counts as a tokenizer of transformers does, marks of beginning and end included."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def __call__(self, text: str) -> int:
        return len(self.tokenizer(text)["input_ids"])

    def all(self, texts: pa.LargeStringArray) -> Int32[np.ndarray, " n"]:
        """See `CountAll`."""
        if not self.tokenizer.is_fast:
            return np.fromiter(map(self, texts.to_pylist()), np.int32, len(texts))
        # Without what transformers makes of the tokens, it takes two thirds of the time.
        plain = self.tokenizer.backend_tokenizer
        plain.no_truncation()
        plain.no_padding()
        return np.fromiter(map(len, plain.encode_batch_fast(texts.to_pylist())), np.int32, len(texts))

    def starts(self, text: str) -> tuple[list[int], int]:
        """See `CountAll`. A token that stands for no sign of the text begins where the one before it ends."""
        found = self.tokenizer(text, return_offsets_mapping=True, return_special_tokens_mask=True)
        offsets = itertools.compress(found["offset_mapping"], (not mark for mark in found["special_tokens_mask"]))
        starts = [begin for begin, _ in offsets]
        return starts, len(found["input_ids"]) - len(starts)


def counter(tokenizer: Words | TokenizerConfig) -> CountAll:
    """The function that counts; `words` are separated by spaces. Raises ConfigError, ModelError."""
    return TokenCount(read_tokenizer(tokenizer)) if isinstance(tokenizer, TokenizerConfig) else WordCount()


def read_tokenizer(config: TokenizerConfig, root: Path | None = None) -> Any:
    """The tokenizer of transformers, of the model in `root` where it is given. Raises ConfigError, ModelError."""
    root = Path(config.model).expanduser() if root is None and is_local(config) else root
    if root is not None:
        return load_tokenizer(root / config.subfolder, config.model)
    from transformers import AutoTokenizer

    try:
        found = AutoTokenizer.from_pretrained(config.model, subfolder=config.subfolder, revision=pinned(config))
    except library_errors() as error:
        raise ModelError(f"tokenizer {config.model}: cannot be used: {str(error)[:300]}") from None
    check_words(found, config.model, config.model)
    return found
