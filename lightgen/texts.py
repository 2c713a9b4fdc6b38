"""Texts repaired, and as plain words: what stays the same however a text is typed.

Evaluation prompts and captions are compared by their plain words. Removed are case, accents, punctuation, white space,
tags, invisible marks, and the ways in which one letter can be encoded (ligatures, full width, entities, addresses, text
that was decoded wrongly). Letters of other scripts that look like Latin ones count as those. Ideographs are words by
themselves. Numbers to twelve count as digits, British spellings of some words as American ones.
"""

import json
import re
import unicodedata
from urllib.parse import unquote_plus

import ftfy
from ftfy.badness import is_bad
from ftfy.chardata import CONTROL_CHARS, LIGATURES, WIDTH_MAP
from ftfy.fixes import uncurl_quotes, unescape_html

# Words of printable ASCII with single spaces between: nothing in them can need repair.
READY_SIGNS = r"!-%'-;=-\[\]-~"
READY = re.compile(rf"[{READY_SIGNS}]+(?: [{READY_SIGNS}]+)*")
INLINE = "a|abbr|acronym|b|big|cite|em|font|i|mark|s|small|span|strike|strong|sub|sup|tt|u"
APART = (
    r"article|aside|blockquote|body|br|button|center|code|dd|div|dl|dt|figcaption|figure|footer|form|h[1-6]|head|header|"
    r"hr|html|image(?:_\d+)?|img|input|label|li|link|meta|nav|ol|option|p|pre|script|section|select|style|table|tbody|td|"
    r"tfoot|th|thead|title|tr|ul|video"
)
# Without `=` what stands after the name is no attribute, and `<a dog>` no tag.
TAGS = re.compile(
    rf"<!--.*?-->|</?(?:(?P<inline>{INLINE})|{APART})(?:\s[^<>=]*=[^<>]*|\s*)/?>", re.IGNORECASE | re.DOTALL
)
ESCAPES = re.compile(r"(?:\\u[0-9a-fA-F]{4})+")
AGAIN = re.compile(r"<|\\u|&#?\w+;")
FIXES = ftfy.TextFixerConfig(unescape_html=True, normalization="NFC", explain=False)
# Signs that ftfy may change but for entities, curly quotes, text that was decoded wrongly, and what NFC composes.
MAPPED = re.escape("".join(map(chr, {*LIGATURES, *WIDTH_MAP, *CONTROL_CHARS})))
CHANGED = re.compile(f"[\n\r\x1b\x80-\x9f\u2028\u2029\ud800-\udfff{MAPPED}]")
DEEPEST = 8  # times that a text may have been encoded
# Format characters and private use, but for the number signs of Arabic, which are seen.
HIDDEN = re.compile(
    "[\u00ad\u061c\u070f\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ue000-\uf8ff"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001\U000e0020-\U000e007f\U000f0000-\U000ffffd"
    "\U00100000-\U0010fffd]"
)
JOINERS = re.compile("(?<![^\x00-\x7f\\s])[\u200c\u200d]|[\u200c\u200d](?![^\x00-\x7f\\s])")
# A tag is one word, or has attributes; other words between angle brackets are words.
TAG = re.compile(r"<!\[CDATA\[|<[a-zA-Z/!][^<>\s]*(?:\s[^<>=]*=[^<>]*|\s*/)?>")
WRITTEN_ENDS, URL_SIGN = re.compile(r"\\[nrt]"), re.compile("%[0-9a-fA-F]{2}")
# Ideographs and kana stand for words without white space between them.
IDEOGRAPH = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
WORD = re.compile(rf"[{IDEOGRAPH}]|[^\W_{IDEOGRAPH}]+")
PLAIN, ODD = re.compile(r"[a-z0-9]+"), re.compile(r"[&<%\\]")
# Categories of Unicode that no reader takes for a letter, vowel signs of Indic scripts among them; and the tatweel.
INVISIBLE, TATWEEL = {"Cf", "Co", "Cn", "Cc", "Mn", "Mc", "Me", "Sk"}, "\u0640"
LOOKALIKES = str.maketrans(
    "аеорсухіјѕԁһӏԛԝкмтвнАЕОРСУХІЈЅКМТВН" "αοριυνκτχηεγω" "օսհոցզյ" "ıłøđ" "\u115f\u1160",
    "aeopcyxijsdhlqwkmtbnaeopcyxijskmtbn" "aopiuvktxneyw" "ouhngqj" "ilod" "  ",
)  # fmt: skip
DRAWN = re.compile(r"(?:LATIN LETTER SMALL CAPITAL|NEGATIVE (?:CIRCLED|SQUARED) LATIN CAPITAL LETTER) ([A-Z])")
LOOKALIKES |= {
    code: found[1].lower()
    for code in (*range(0x250, 0x2B0), *range(0x1D00, 0x1D30), *range(0xA730, 0xA732), *range(0x1F150, 0x1F18A))
    if (found := DRAWN.fullmatch(unicodedata.name(chr(code), "")))
}
NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
SPELLINGS: dict[str, str] = {"grey": "gray", "colour": "color", "coloured": "colored", "photograph": "photo"}
SPELLINGS |= {"doughnut": "donut", "doughnuts": "donuts", "aeroplane": "airplane", "aeroplanes": "airplanes"}
SPELLINGS |= {"racquet": "racket", "racquets": "rackets", "dryer": "drier", "dryers": "driers"}
SPELLINGS |= {word: str(number) for number, word in enumerate(NUMBERS, 1)}
ARTICLES = {"a", "an", "the", "1"}
# What the prompts of known benchmarks begin with, and its like, which says nothing of what is to be seen.
PICTURE = "(?:photo|picture|image|pic|shot|snapshot|photograph|painting|drawing|render)s?|photography"
FRAME = re.compile(
    rf"^(?:(?:(?:close up |closeup |stock |high quality |realistic )*(?:{PICTURE}) (?:of|showing|depicting)|"
    r"there (?:is|are)|this is|please|draw|generate|create|imagine) )+"
)


def repaired(text: str) -> str:
    """The text as a reader should see it, with single spaces between words.

    Broken Unicode is repaired, entities and escapes are decoded, tags and invisible marks are removed. A text that is
    repaired stays as it is.
    """
    if READY.fullmatch(text):
        return text
    for _ in range(DEEPEST):
        plain = _without_tags(ESCAPES.sub(_decoded, text) if "\\u" in text else text)
        read = _read(plain)
        bare = _without_hidden(read)
        fixed = " ".join(bare.split())
        # What is decoded may be a tag, an entity or an escape again, and what stood apart stands together now, where
        # ftfy may see letters that were decoded wrongly.
        same = bare == read and (fixed == bare or fixed.isascii() or not is_bad(fixed))
        if fixed == text or (same and not AGAIN.search(fixed)):
            return fixed
        text = fixed
    return text


def _read(text: str) -> str:
    """What ftfy makes of a text. What it takes 40 us and more for is done here in two, where that is all it does."""
    while True:
        read = unescape_html(text) if "&" in text else text
        if CHANGED.search(read) or not (read.isascii() or not is_bad(read)):
            return ftfy.fix_text(text, FIXES)
        # So its other steps change nothing; it goes through all of them until none does.
        read = unicodedata.normalize("NFC", uncurl_quotes(read))
        if read == text:
            return text
        text = read


def _without_tags(text: str) -> str:
    if "<" not in text:
        return text
    named = text.replace("<PERSON>", "person")  # stands for a name in Conceptual 12M
    return TAGS.sub(lambda found: "" if found["inline"] else " ", named)


def _without_hidden(text: str) -> str:
    """Without what is invisible, but for the joiners within words of other scripts and within emoji."""
    return text if text.isascii() else JOINERS.sub("", HIDDEN.sub("", text))


def _decoded(found: re.Match[str]) -> str:
    """An escape of JSON or of Python as the text it stands for, unless it is half a character."""
    try:
        text: str = json.loads(f'"{found[0]}"')
        text.encode()
    except (ValueError, UnicodeEncodeError):
        return found[0]
    return text


def plain_words(text: str) -> str:
    """The words of a text in order, with single spaces between; empty for a text without any, such as emoji."""
    plain = text.isascii() and text.isprintable() and not ODD.search(text)
    words: list[str] = PLAIN.findall(text.lower()) if plain else WORD.findall(_plain(text))
    return " ".join(SPELLINGS.get(word, word) for word in words)


def _plain(text: str) -> str:
    """`text` in the simplest letters that a reader would take it for."""
    if URL_SIGN.search(text) and not any(sign.isspace() for sign in text):
        text = unquote_plus(text)
    whole = TAG.sub(" ", WRITTEN_ENDS.sub(" ", repaired(text)))
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", _without_marks(whole)).casefold())
    return unicodedata.normalize("NFKC", _without_marks(decomposed).translate(LOOKALIKES))


class _Shown(dict[int, int | None]):
    """For `str.translate`: no sign that is invisible, or changes no more than how a letter is decorated."""

    def __missing__(self, code: int) -> int | None:
        sign = chr(code)
        hidden = sign == TATWEEL or (sign not in "\n\t\r" and unicodedata.category(sign) in INVISIBLE)
        self[code] = None if hidden else code
        return self[code]


SHOWN = _Shown()


def _without_marks(text: str) -> str:
    return text.translate(SHOWN)


def normalised(text: str) -> str:
    """The words of a text; a text without any stays itself."""
    return plain_words(text) or text


def subject(words: str) -> str:
    """What a text is about, of its plain words: no articles, and no "a photo of" and its like at the beginning."""
    kept = " ".join(word for word in words.split() if word not in ARTICLES)
    return FRAME.sub("", kept)
