"""Whether what a model wrote is a caption: an object with one text, of the right length and language, and no excuse."""

import re
from typing import Literal

from lightgen.captioners.base import Rules, Written
from lightgen.corpora.cleaning import Cleaned, clean
from lightgen.vlm.reading import one_object
from schemas.scores import Unscored

Language = Literal["en", "any"]
LATIN, ENGLISH_FROM = 0.9, 8  # share of letters; words from which one of English is expected
ECHO = 6  # words in a row of what it was told
REFUSAL = re.compile(
    r"\b(i['’]?m sorry|i am sorry|i apologi[sz]e|as an ai|language model|i (?:can(?:no|['’])t|am (?:not able|unable))"
    r"|unable to (?:see|view|assist|help|describe|provide)|can(?:not|['’]t) (?:see|view|assist|help|describe|provide)"
    r"|no image (?:was|is|has been) (?:provided|given|attached))\b",
    re.IGNORECASE,
)
COMMON = {
    "a", "an", "the", "of", "in", "on", "at", "with", "and", "is", "are", "to", "its", "his", "her", "their", "by",
    "from", "near", "over", "under", "behind", "while",
}  # fmt: skip
# The commonest words of German, French, Spanish, Italian and Portuguese that are no words of English.
FOREIGN = {
    "der", "das", "und", "ein", "eine", "einem", "einen", "dem", "mit", "auf", "vor", "ist", "neben", "le", "les",
    "une", "et", "dans", "sur", "avec", "est", "du", "el", "los", "las", "una", "con", "del", "il", "di", "della", "um",
    "uma", "com", "na", "em",
}  # fmt: skip
WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")


def read_caption(answer: str) -> str | Unscored:
    """The text in {"caption": ...}; other keys are refused."""
    found = one_object(answer)
    if isinstance(found, Unscored):
        return Unscored("caption_no_json", found.detail)
    named = {key.strip().casefold(): value for key, value in found.items()}
    if set(named) != {"caption"} or not isinstance(named["caption"], str):
        return Unscored("caption_other_json", answer[:300])
    return named["caption"]


def checked(text: str, answer: str, rules: Rules, tokens: tuple[int, int], told: str, language: Language) -> Written:
    """The caption, or why the text is none. `tokens` are the least and the most, `told` is what the model was told."""
    found = clean(text, rules.limits, rules.count)
    if not isinstance(found, Cleaned):
        return Written(answer=answer, reason=found[0], detail=found[1])
    reason, detail = _fault(found, tokens, told, language)
    if reason:
        return Written(answer=answer, reason=reason, detail=detail)
    return Written(found.caption, found.tokens, answer)


def _fault(found: Cleaned, tokens: tuple[int, int], told: str, language: Language) -> tuple[str, str]:
    least, most = tokens
    if found.tokens < least:
        return "caption_too_short", f"{found.tokens} tokens, at least {least}"
    if found.tokens > most:
        return "caption_too_long", f"{found.tokens} tokens, at most {most}"
    if match := REFUSAL.search(found.caption):
        return "caption_refusal", match[0]
    if echo := _echo(found.caption, told):
        return "caption_echo", echo
    if language == "en" and (why := _not_english(found.caption)):
        return "caption_language", why
    return "", ""


def _echo(caption: str, told: str) -> str:
    """Words in a row that the model was told, and only said again."""
    words, known = WORD.findall(caption.casefold()), f" {' '.join(WORD.findall(told.casefold()))} "
    rows = (" ".join(words[start : start + ECHO]) for start in range(len(words) - ECHO + 1))
    return next((row for row in rows if f" {row} " in known), "")


def _not_english(caption: str) -> str:
    letters = [letter for letter in caption if letter.isalpha()]
    latin = sum(letter.isascii() for letter in letters)
    if latin < LATIN * len(letters) or not letters:
        return f"{latin} of {len(letters)} letters are those of English"
    words = WORD.findall(caption.casefold())
    if sum(word in FOREIGN for word in words) > sum(word in COMMON for word in words):
        return "more words of other languages than of English"
    if len(words) >= ENGLISH_FROM and not COMMON & set(words):
        return "none of the commonest words of English"
    return ""
