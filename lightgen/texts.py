"""Texts repaired, and as plain words: what stays the same however a text is typed.

Evaluation prompts and captions are compared by their plain words. Removed are case, accents, punctuation, white space,
tags, invisible marks, and the ways in which one letter can be encoded (ligatures, full width, entities, text that was
decoded wrongly). Letters of other scripts that look like Latin ones count as those. Ideographs are words by themselves.
Numbers to twelve count as digits, British spellings of colours as American ones.
"""

import re
import unicodedata

import ftfy

TAG = re.compile(r"<[a-zA-Z/!][^<>]*>")
# Ideographs and kana stand for words without white space between them.
IDEOGRAPH = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
WORD = re.compile(rf"[{IDEOGRAPH}]|[^\W_{IDEOGRAPH}]+")
PLAIN = re.compile(r"[a-z0-9]+")
# Categories of Unicode that no reader takes for a letter, vowel signs of Indic scripts among them; and the tatweel.
INVISIBLE, TATWEEL = {"Cf", "Co", "Cn", "Cc", "Mn", "Mc", "Me", "Sk"}, "\u0640"
LOOKALIKES = str.maketrans(
    "аеорсухіјѕԁһӏԛԝкмтвнАЕОРСУХІЈѕКМТВН" "αοριυνκτχ" "ıłøđ",
    "aeopcyxijsdhlqwkmtbnaeopcyxijskmtbn" "aopiuvktx" "ilod",
)  # fmt: skip
NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
SPELLINGS: dict[str, str] = {"grey": "gray", "colour": "color", "coloured": "colored", "photograph": "photo"}
SPELLINGS |= {word: str(number) for number, word in enumerate(NUMBERS, 1)}
ARTICLES = {"a", "an", "the"}
# What the prompts of known benchmarks begin with, which says nothing of what is to be seen.
FRAME = re.compile(r"^(?:(?:photo|picture|image|pic|shot|snapshot|photography|painting|drawing|render) of )+")


def repaired(text: str) -> str:
    """The text with its Unicode mended, its entities decoded and its white space made single spaces."""
    # ftfy leaves plain ASCII without entities as it is, and takes 15 us to find that out.
    plain = text.isascii() and text.isprintable() and "&" not in text
    return " ".join((text if plain else ftfy.fix_text(text, normalization="NFC")).split())


def plain_words(text: str) -> str:
    """The words of a text in order, with single spaces between; empty for a text without any, such as emoji."""
    plain = text.isascii() and text.isprintable() and "&" not in text and "<" not in text
    words: list[str] = PLAIN.findall(text.lower()) if plain else WORD.findall(_plain(text))
    return " ".join(SPELLINGS.get(word, word) for word in words)


def _plain(text: str) -> str:
    """`text` in the simplest letters that a reader would take it for."""
    whole = TAG.sub(" ", repaired(text))
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", _without_marks(whole)).casefold())
    return unicodedata.normalize("NFKC", _without_marks(decomposed).translate(LOOKALIKES))


def _without_marks(text: str) -> str:
    """Without what is invisible, or changes no more than how a letter is decorated."""
    kept = (sign for sign in text if sign in "\n\t\r" or unicodedata.category(sign) not in INVISIBLE)
    return "".join(kept).replace(TATWEEL, "")


def normalised(text: str) -> str:
    """The words of a text; a text without any stays itself."""
    return plain_words(text) or text


def subject(words: str) -> str:
    """What a text is about, of its plain words: no articles, and no "a photo of" and its like at the beginning."""
    kept = " ".join(word for word in words.split() if word not in ARTICLES)
    return FRAME.sub("", kept)
