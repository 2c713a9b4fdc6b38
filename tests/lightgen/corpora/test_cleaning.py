"""Cleaning: what is repaired, what is refused, and that the short way through gives the same."""

import string

import ftfy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightgen.corpora.cleaning import Cleaned, Limits, clean, repaired

PRINTABLE = st.text(string.ascii_letters + string.digits + string.punctuation + "  ")


def words(text: str) -> int:
    return len(text.split())


@settings(max_examples=500, deadline=None)
@given(st.one_of(PRINTABLE, st.text(st.characters(exclude_categories=["Cs"]))))
def test_the_short_way_through_repairs_what_ftfy_repairs(text: str) -> None:
    assert repaired(text) == " ".join(ftfy.fix_text(text, normalization="NFC").split())


@pytest.mark.parametrize(
    ("text", "caption"),
    [
        (b"it\xc3\xa2\xe2\x82\xac\xe2\x84\xa2s  a   cafe", "it's a cafe"),
        ("tom &amp; jerry", "tom & jerry"),
        ("  two\t\n spaces ", "two spaces"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("Ka\u0308fer", "Käfer"),
    ],
)
def test_text_is_repaired(text: str | bytes, caption: str) -> None:
    assert clean(text, Limits(), words) == Cleaned(caption, words(caption))


@pytest.mark.parametrize(
    ("text", "reason", "detail"),
    [
        (None, "caption_empty", "no text"),
        (b" \t ", "caption_empty", "0 characters, at least 3"),
        ("a" * 2001, "caption_too_long", "2001 characters, at most 2000"),
        ("a" * 1_000_000, "caption_too_long", "1000000 characters, at most 2000"),
        ("word " * 129, "caption_too_long", "129 tokens, at most 128"),
        (b"caf\xe9 au lait", "caption_encoding", "not UTF-8: invalid continuation byte at byte 3"),
        ("caf\udce9", "caption_encoding", "a lone surrogate: the file is not UTF-8"),
        ("a\0b", "caption_encoding", "a NUL character"),
        ("lost \ufffd", "caption_encoding", "a replacement character: the text was decoded wrongly before"),
    ],
)
def test_what_cannot_be_kept_has_a_reason(text: str | bytes | None, reason: str, detail: str) -> None:
    assert clean(text, Limits(), words) == (reason, detail)
