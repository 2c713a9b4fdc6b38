"""Repairs captions, and says why one cannot be kept: one by one, or the plain ones of a batch at once."""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions when it is imported, where pyright does not see them.

import re
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int32
from pydantic import Field

from lightgen.config import Config
from lightgen.corpora.tokenizer import Count, CountAll
from lightgen.texts import READY_SIGNS, repaired

UNREADABLE = {
    "\0": "a NUL character",
    "\ufffd": "a replacement character: the text was decoded wrongly before",
}
ODD = re.compile("[\0\ufffd\ud800-\udfff]")
# What no repair changes but for white space around it, in words of two or more.
PLAIN = rf"^[ \t\r\n]*[{READY_SIGNS}]+(?: [{READY_SIGNS}]+)+[ \t\r\n]*$"
LETTER = "[0-9A-Za-z]"
MOST_CHARACTERS = 1 << 30  # lengths are counted in 32 bits
EMOJI = re.compile("[\u203c-\u3299\U0001f000-\U0001faff]")
FILE_ENDINGS = (
    "jpe?g|png|gif|webp|bmp|tiff?|svg|heic|avif|psd|ico|mp4|mov|avi|mp3|wav|pdf|docx?|pptx?|xlsx?|zip|html?|php|aspx?"
)
DOMAINS = "com|org|net|edu|gov|io|info|biz|co|de|fr|uk|it|es|nl|ru|jp|cn|eu|tv|me"
NO_LANGUAGE = {
    "a file name": re.compile(
        rf"\S*\.(?:{FILE_ENDINGS})|(?:img|dscn?|dscf|dcim|pxl|mvimg|p)[-_]?\d{{3}}[-\w]*", re.IGNORECASE
    ),
    "an address": re.compile(rf"(?:https?://|www\.)\S+|[\w-]+(?:\.[\w-]+)*\.(?:{DOMAINS})(?:/\S*)?", re.IGNORECASE),
    "a mark of a missing value": re.compile(
        r"nan|none|null|nil|undefined|n/?a|#n/a|<na>|#(?:div/0|name|null|num|ref|value)[!?]", re.IGNORECASE
    ),
}
REASONS = ("caption_encoding", "caption_empty", "caption_too_short", "caption_too_long", "caption_not_language")


class Limits(Config):
    """What a caption must be."""

    min_characters: int = Field(default=3, ge=1, le=MOST_CHARACTERS, description="fewer are refused")
    max_characters: int = Field(default=2000, ge=1, le=MOST_CHARACTERS, description="more are refused")
    max_tokens: int = Field(default=128, ge=1, description="what the student's text encoder reads; the paper's 128")


@dataclass(frozen=True)
class Cleaned:
    """A caption ready to keep."""

    caption: str
    tokens: int


@dataclass(frozen=True)
class CleanedBatch:
    """Captions ready to keep, null where one is refused; `refused` holds reason and detail by place."""

    captions: pa.LargeStringArray
    tokens: Int32[np.ndarray, " n"]
    refused: dict[int, tuple[str, str]]


def clean(text: str | bytes | None, limits: Limits, count: Count) -> Cleaned | tuple[str, str]:
    """The repaired caption and its tokens, or (reason, detail)."""
    fixed = _repaired_within(text, limits)
    if isinstance(fixed, tuple):
        return fixed
    tokens = count(fixed)
    return _too_many(tokens, limits) if tokens > limits.max_tokens else Cleaned(fixed, tokens)


def clean_all(texts: pa.LargeBinaryArray, limits: Limits, count: CountAll) -> CleanedBatch:
    """The same for each of the texts. Plain ones, nine of ten of real captions, are never taken apart."""
    plain, trimmed = _plain(texts, limits)
    captions = pc.replace_with_mask(pa.nulls(len(texts), pa.large_string()), plain, trimmed)
    others = np.flatnonzero(~plain.to_numpy(zero_copy_only=False))
    fixed = [_repaired_within(text, limits) for text in texts.take(pa.array(others)).to_pylist()]
    refused = {place: one for place, one in zip(others.tolist(), fixed, strict=True) if isinstance(one, tuple)}
    texts_fixed = pa.array([one for one in fixed if isinstance(one, str)], pa.large_string())
    is_fixed = np.zeros(len(texts), bool)
    is_fixed[[place for place in others.tolist() if place not in refused]] = True
    captions = pc.replace_with_mask(captions, pa.array(is_fixed), texts_fixed)
    return _counted(captions, refused, limits, count)


def _counted(
    captions: pa.LargeStringArray, refused: dict[int, tuple[str, str]], limits: Limits, count: CountAll
) -> CleanedBatch:
    kept = captions.is_valid().to_numpy(zero_copy_only=False)
    tokens = np.zeros(len(captions), np.int32)
    tokens[kept] = count.all(captions.drop_null())
    long = np.flatnonzero(tokens > limits.max_tokens)
    refused |= {int(place): _too_many(int(tokens[place]), limits) for place in long}
    captions = pc.if_else(pa.array(tokens > limits.max_tokens), pa.scalar(None, pa.large_string()), captions)
    return CleanedBatch(captions, tokens, refused)


def _plain(texts: pa.LargeBinaryArray, limits: Limits) -> tuple[pa.BooleanArray, pa.LargeStringArray]:
    """Which texts need no repair and are within the limits of length, and those without white space around them."""
    right = pc.and_(pc.match_substring_regex(texts, PLAIN), pc.match_substring_regex(texts, LETTER))
    right = pc.fill_null(right, False)
    trimmed = pc.utf8_trim_whitespace(texts.filter(right).cast(pa.large_string()))
    size = pc.binary_length(trimmed)
    fits = pc.and_(pc.greater_equal(size, limits.min_characters), pc.less_equal(size, limits.max_characters))
    return pc.replace_with_mask(right, right, fits), trimmed.filter(fits)


def _repaired_within(text: str | bytes | None, limits: Limits) -> str | tuple[str, str]:
    """The repaired text, or (reason, detail)."""
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
    return fixed if (fault := _fault(fixed, limits)) is None else fault


def _fault(caption: str, limits: Limits) -> tuple[str, str] | None:
    """Reason and detail why a repaired text is no caption."""
    if not caption:
        return "caption_empty", f"0 characters, at least {limits.min_characters}"
    if odd := ODD.search(caption):
        return "caption_encoding", UNREADABLE[odd[0]]
    if not any(sign.isalnum() for sign in caption) and not EMOJI.search(caption):
        return "caption_not_language", "no letter, digit, ideograph or emoji"
    if len(caption) < limits.min_characters:
        return "caption_too_short", f"{len(caption)} characters, at least {limits.min_characters}"
    if len(caption) > limits.max_characters:
        return "caption_too_long", f"{len(caption)} characters, at most {limits.max_characters}"
    what = (
        next((what for what, form in NO_LANGUAGE.items() if form.fullmatch(caption)), None)
        if " " not in caption
        else ""
    )
    return ("caption_not_language", what) if what else None


def _too_many(tokens: int, limits: Limits) -> tuple[str, str]:
    return "caption_too_long", f"{tokens} tokens, at most {limits.max_tokens}"
