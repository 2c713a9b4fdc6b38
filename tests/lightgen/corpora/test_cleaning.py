"""Cleaning: what is repaired, what is refused, and that the short way through gives the same."""

import string

import ftfy
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from lightgen.corpora.cleaning import Cleaned, Limits, clean, clean_all
from lightgen.corpora.tokenizer import counter
from lightgen.texts import FIXES, _read, repaired

ODD_TEXTS = ["IMG_1234.jpg", "www.a.org", "...", "  padded text  ", "a" * 40, "one two " * 9, "&amp;", "ab", "a\ufffd"]
LIMITS = st.builds(
    Limits, min_characters=st.integers(1, 6), max_characters=st.integers(3, 30), max_tokens=st.integers(1, 6)
)
PRINTABLE = st.text(string.ascii_letters + string.digits + string.punctuation + "  ")


def words(text: str) -> int:
    return len(text.split())


TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]))
PIECES = st.lists(
    st.sampled_from(
        [
            *(
                "<b>",
                "</b>",
                "<br />",
                "<",
                ">",
                "&",
                "&amp;",
                "amp;",
                "&lt;",
                "br",
                "\\u2013",
                "\\u005c",
                "u0041",
                " ",
            ),
            *(
                "\u200b",
                "\u200d",
                "\U0001f468",
                "\u00ad",
                "1",
                "\u00e9",
                "\u00c3\u00a9",
                "<PERSON>",
                "\ue000",
                "\n",
                "a",
            ),
        ]
    ),
    max_size=8,
).map("".join)


# Mojibake, entities, controls, escapes of terminals, curly quotes, ligatures, full width, half characters.
FTFY_PIECES = (
    *(
        "\u00c3\u00a9",
        "\u00e2\u20ac\u2122",
        "\u00e2\u20ac\u0153",
        "\u00c2 ",
        "\u00c3 ",
        "\u0432\u0402\u2122",
        "\u00f0\u0178",
    ),
    *(
        "\x85",
        "\x9d",
        "\x1b[31m",
        "\x07",
        "\x7f",
        "\u2028",
        "\u201c",
        "\u2019",
        "\u02bc",
        "\ufeff",
        "\u00a0",
        " ",
        "\n",
        "\r",
    ),
    *(
        "\ufb01",
        "\u0149",
        "\u01c4",
        "\uff21",
        "\u3000",
        "\uffe5",
        "e\u0301",
        "\u0308",
        "\u212b",
        "\u0958",
        "\u1100\u1161",
    ),
    *("\ud800", "\udc00", "&amp;", "&amp;lt;", "&#10;", "&#x85;", "&eacute;", "&EACUTE;", "&rsquo;", "&quot;", "a"),
)
MANGLED = st.lists(
    st.one_of(st.sampled_from(FTFY_PIECES), st.characters(min_codepoint=128, max_codepoint=0x2122)),
    max_size=8,
).map("".join)


@settings(max_examples=500)
@given(PRINTABLE)
def test_the_short_way_through_repairs_what_ftfy_repairs(text: str) -> None:
    if "<" not in text and "\\u" not in text:
        assert repaired(text) == " ".join(ftfy.fix_text(text, unescape_html=True, normalization="NFC").split())


@settings(max_examples=1000)
@given(st.one_of(TEXT, MANGLED, PIECES))
def test_what_is_not_shown_to_ftfy_it_would_not_have_changed(text: str) -> None:
    assert _read(text) == ftfy.fix_text(text, FIXES)


def test_a_caption_with_accents_and_curly_quotes_is_not_shown_to_ftfy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the property above would hold of a way that always asks it."""
    monkeypatch.setattr("ftfy.fix_text", lambda text, _: pytest.fail(f"{text!r} was shown"))
    assert (
        repaired("l\u2019\u00e9t\u00e9 \u2013 \u201cu\u0308ber\u201d &lt;3 &eacute; \u00a9")
        == 'l\'\u00e9t\u00e9 \u2013 "\u00fcber" <3 \u00e9 \u00a9'
    )


@settings(max_examples=500)
@example("\u00e0  \u00c2\u00a1")  # ftfy repairs it once there is a single space
@given(st.one_of(PRINTABLE, TEXT, PIECES))
def test_a_text_that_is_repaired_stays_as_it_is(text: str) -> None:
    assert repaired(repaired(text)) == repaired(text)


@settings(max_examples=300)
@given(st.lists(st.one_of(PRINTABLE, TEXT, PIECES, st.none(), st.sampled_from(ODD_TEXTS)), max_size=6), LIMITS)
def test_a_batch_is_cleaned_as_its_texts_are(texts: list[str | None], limits: Limits) -> None:
    column = pa.array([None if text is None else text.encode() for text in texts], pa.large_binary())
    found = clean_all(column, limits, counter("words"))
    for place, text in enumerate(column.to_pylist()):
        one = clean(text, limits, words)
        if isinstance(one, Cleaned):
            assert (found.captions[place].as_py(), found.tokens[place]) == (one.caption, one.tokens)
        else:
            assert (found.captions[place].as_py(), found.refused[place]) == (None, one)
    assert len(found.refused) == found.captions.null_count


def test_plain_text_does_not_go_the_long_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the property above would hold of a batch that is cleaned one by one."""
    monkeypatch.setattr("lightgen.corpora.cleaning.repaired", lambda text: pytest.fail(f"{text!r} was taken apart"))
    texts = pa.array([b"a red bird on a wall", b" two cups, 3 spoons (blue).\n"], pa.large_binary())
    found = clean_all(texts, Limits(), counter("words"))
    assert found.captions.to_pylist() == ["a red bird on a wall", "two cups, 3 spoons (blue)."]
    assert found.tokens.tolist() == [6, 5]


@pytest.mark.parametrize(
    ("text", "caption"),
    [
        (b"it\xc3\xa2\xe2\x82\xac\xe2\x84\xa2s  a   cafe", "it's a cafe"),
        ("tom &amp; jerry", "tom & jerry"),
        ("  two\t\n spaces ", "two spaces"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("Ka\u0308fer", "Käfer"),
        ("Tom &amp; <b>Jerry</b> poster", "Tom & Jerry poster"),
        ("Dinner &#8230;<br />at the lake", "Dinner … at the lake"),
        ("a shirt<br>100% cotton", "a shirt 100% cotton"),
        ("fish &amp;amp; chips", "fish & chips"),
        ("&lt;i&gt;red&lt;/i&gt; barn", "red barn"),
        ('<a href="x.html" class="y">an old mill</a>', "an old mill"),
        ("I <3 my dog & <- this", "I <3 my dog & <- this"),
        ("<PERSON> opens the new library", "person opens the new library"),
        ("<image>\na kite", "a kite"),
        ("\u200ba red barn", "a red barn"),
        ("a red\u00adbarn wall", "a redbarn wall"),
        ("\u202aan old castle\u202c", "an old castle"),
        ("a lamp \u200e\u2013 a table", "a lamp \u2013 a table"),
        ("a cup\u2028on a desk", "a cup on a desk"),
        ("an icon \ue001 here", "an icon here"),
        ("a dog \\u2013 sitting", "a dog \u2013 sitting"),
        ("a dog \\ud83d\\udc36 sits", "a dog \U0001f436 sits"),
        ("half \\ud83d of one", "half \\ud83d of one"),
        ("a family \U0001f468\u200d\U0001f469\u200d\U0001f467", "a family \U0001f468\u200d\U0001f469\u200d\U0001f467"),
        ("mean\u200dwhile", "meanwhile"),
        ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"),
        ("I \u2764\ufe0f red barns", "I \u2764\ufe0f red barns"),
    ],
)
def test_text_is_repaired(text: str | bytes, caption: str) -> None:
    assert clean(text, Limits(), words) == Cleaned(caption, words(caption))


@pytest.mark.parametrize(
    ("text", "reason", "detail"),
    [
        (None, "caption_empty", "no text"),
        (b" \t ", "caption_empty", "0 characters, at least 3"),
        ("ab", "caption_too_short", "2 characters, at least 3"),
        ("a" * 2001, "caption_too_long", "2001 characters, at most 2000"),
        ("a" * 1_000_000, "caption_too_long", "1000000 characters, at most 2000"),
        ("word " * 129, "caption_too_long", "129 tokens, at most 128"),
        (b"caf\xe9 au lait", "caption_encoding", "not UTF-8: invalid continuation byte at byte 3"),
        ("caf\udce9", "caption_encoding", "a lone surrogate: the file is not UTF-8"),
        ("a\0b", "caption_encoding", "a NUL character"),
        ("&#xfffd; lost", "caption_encoding", "a replacement character: the text was decoded wrongly before"),
        ("\u200b\u200b\u200b", "caption_empty", "0 characters, at least 3"),
        ("\ue000\ue001\ue002", "caption_empty", "0 characters, at least 3"),
        ("...", "caption_not_language", "no letter, digit, ideograph or emoji"),
        ("\u2013 \u2013 \u2013", "caption_not_language", "no letter, digit, ideograph or emoji"),
        ("IMG_20230412_0001.jpg", "caption_not_language", "a file name"),
        ("red-barn-in-snow.JPEG", "caption_not_language", "a file name"),
        ("IMG_0001", "caption_not_language", "a file name"),
        ("www.example.org/a", "caption_not_language", "an address"),
        ("https://example.org/?q=1", "caption_not_language", "an address"),
        ("example.org", "caption_not_language", "an address"),
        ("42", "caption_too_short", "2 characters, at least 3"),
        ("\u732b\u54aa", "caption_too_short", "2 characters, at least 3"),
        ("\U0001f436\U0001f436", "caption_too_short", "2 characters, at least 3"),
        ("lost \ufffd", "caption_encoding", "a replacement character: the text was decoded wrongly before"),
    ],
)
def test_what_cannot_be_kept_has_a_reason(text: str | bytes | None, reason: str, detail: str) -> None:
    assert clean(text, Limits(), words) == (reason, detail)


@pytest.mark.parametrize(
    "text",
    [
        "42",
        "\u732b\u54aa",
        "\U0001f436\U0001f436",
        "Dr. Who",
        "barn.",
        "e.g. a cat",
        "a.jpg of a cat",
        "Node.js",
        "v2.0",
    ],
)
def test_what_has_a_letter_a_digit_an_ideograph_or_an_emoji_is_a_caption(text: str) -> None:
    assert clean(text, Limits(min_characters=2), words) == Cleaned(text, words(text))


@pytest.mark.parametrize(
    "mark", ["nan", "NaN", "None", "NULL", "n/a", "N/A", "#N/A", "<NA>", "undefined", "#REF!", "#NAME?"]
)
def test_a_mark_of_a_missing_value_is_no_caption(mark: str) -> None:
    limits = Limits()
    assert clean(mark, limits, words) == ("caption_not_language", "a mark of a missing value")
    for text in (f"a sign that says {mark}", f"{mark}y"):
        assert isinstance(clean(text, limits, words), Cleaned)


def test_lengths_that_no_text_has_are_refused_by_name() -> None:
    for name in ("min_characters", "max_characters"):
        with pytest.raises(ValidationError, match="less than or equal to 1073741824"):
            Limits.model_validate({name: 10**20})
