"""Repairs a caption, and says why one cannot be kept."""

import re
from dataclasses import dataclass

from pydantic import Field

from lightgen.config import Config
from lightgen.corpora.tokenizer import Count
from lightgen.texts import repaired

UNREADABLE = {
    "\0": "a NUL character",
    "\ufffd": "a replacement character: the text was decoded wrongly before",
}
ODD = re.compile("[\0\ufffd\ud800-\udfff]")


class Limits(Config):
    """What a caption must be."""

    min_characters: int = Field(default=3, ge=1, description="fewer are refused")
    max_characters: int = Field(default=2000, ge=1, description="more are refused")
    max_tokens: int = Field(default=128, ge=1, description="what the student's text encoder reads; the paper's 128")


@dataclass(frozen=True)
class Cleaned:
    """A caption ready to keep."""

    caption: str
    tokens: int


def clean(text: str | bytes | None, limits: Limits, count: Count) -> Cleaned | tuple[str, str]:
    """The repaired caption and its tokens, or (reason, detail)."""
    if text is None:
        return "caption_empty", "no text"
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8")
        except UnicodeDecodeError as error:
            return "caption_encoding", f"not UTF-8: {error.reason} at byte {error.start}"
    if odd := ODD.search(text):
        return "caption_encoding", UNREADABLE.get(odd[0], "a lone surrogate: the file is not UTF-8")
    if len(text) > 8 * limits.max_characters:
        # Repairing megabytes is work for nothing.
        return "caption_too_long", f"{len(text)} characters, at most {limits.max_characters}"
    fixed = repaired(text)
    if len(fixed) < limits.min_characters:
        return "caption_empty", f"{len(fixed)} characters, at least {limits.min_characters}"
    if len(fixed) > limits.max_characters:
        return "caption_too_long", f"{len(fixed)} characters, at most {limits.max_characters}"
    tokens = count(fixed)
    if tokens > limits.max_tokens:
        return "caption_too_long", f"{tokens} tokens, at most {limits.max_tokens}"
    return Cleaned(fixed, tokens)
