"""No evaluation prompt passes as a training caption, however it is dressed up; captions of other things do."""

import csv
import html
import json
import unicodedata
import urllib.parse
from collections.abc import Callable
from pathlib import Path

import pytest

from lightgen.decisions.contamination import ContaminationConfig, contaminated
from lightgen.texts import plain_words, subject

DATA = Path(__file__).parents[4] / "shared" / "data"
GENEVAL = DATA / "geneval_evaluation_metadata.jsonl"
COCO = DATA / "coco_val2017_captions.tsv"
SOME = [
    "a photo of a bench", "a photo of two clocks", "a photo of a green cup and a yellow bowl",
    "a photo of a dog right of a teddy bear", "a photo of four stop signs",
]  # fmt: skip
CYRILLIC = str.maketrans("aeopcx", "аеорсх")
FULL_WIDTH = {code: code + 0xFEE0 for code in range(0x21, 0x7F)}
SMALL_CAPITALS = str.maketrans("abcdeghijklmnoprtuvwz", "ᴀʙᴄᴅᴇɢʜɪᴊᴋʟᴍɴᴏᴘʀᴛᴜᴠᴡᴢ")
DISGUISES: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "upper case": str.upper,
    "a full stop": lambda text: f"{text}.",
    "typographic quotes": lambda text: f"“{text}”",
    "white space": lambda text: text.replace(" ", "\u00a0\u2003 "),
    "invisible marks": lambda text: "\u200b".join(text),
    "soft hyphens": lambda text: "\u00ad".join(text),
    "turned around for display": lambda text: f"\u202d{text}\u202c",
    "full width": lambda text: text.translate(FULL_WIDTH),
    "decomposed accents": lambda text: unicodedata.normalize("NFD", text.replace("o", "ö")),
    "letters of another script": lambda text: text.translate(CYRILLIC),
    "mathematical letters": lambda text: "".join(
        chr(0x1D41A + ord(sign) - 97) if "a" <= sign <= "z" else sign for sign in text
    ),
    "entities": lambda text: html.escape(f'"{text}"').replace("o", "&#111;"),
    "tags": lambda text: f"<b>{text}</b><br/>",
    "underscores": lambda text: text.replace(" ", "_"),
    "hyphens": lambda text: text.replace(" ", "-"),
    "an emoji at the end": lambda text: f"{text} 📷✨",
    "without the frame": lambda text: text.removeprefix("a photo of "),
    "another frame": lambda text: text.replace("a photo of", "A picture of"),
    "digits": lambda text: text.replace("two", "2").replace("three", "3").replace("four", "4"),
    "other articles": lambda text: text.replace(" a ", " the "),
    "decoded wrongly": lambda text: f"‘{text}’".encode().decode("cp1252", "replace"),
    "a tail": lambda text: f"{text}, 4k, highly detailed",
    "a head": lambda text: f"Professional lighting, {text}",
    "blank letters": lambda text: text.replace(" ", "\u3164"),
    "small capitals": lambda text: text.translate(SMALL_CAPITALS),
    "white on black": lambda text: "".join(chr(0x1F170 + ord(sign) - 97) if sign.islower() else sign for sign in text),
    "letters of Armenian": lambda text: text.translate(str.maketrans("oghnu", "\u0585\u0581\u0570\u0578\u057d")),
    "an address": urllib.parse.quote,
    "an address sign by sign": lambda text: "".join(f"%{ord(sign):02x}" for sign in text),
    "written ends of lines": lambda text: text.replace(" ", r"\n"),
    "escapes": lambda text: "".join(f"\\u{ord(sign):04x}" for sign in text),
    "character data": lambda text: f"<![CDATA[{text}]]>",
    "angle brackets": lambda text: f"<{text.removeprefix('a photo of ')}>",
    "one word": lambda text: text.replace(" ", ""),
    "words by capitals": lambda text: text.title().replace(" ", ""),
    "hyphens between letters": "-".join,
    "spaces between letters": " ".join,
    "another number": lambda text: text[:-1] if text.endswith("s") else f"{text}s",
    "one of it": lambda text: text.replace("a photo of a ", "one "),
    "exactly": lambda text: text.replace("a photo of", "exactly"),
    "turned around": lambda text: " and ".join(reversed(text.removeprefix("a photo of ").split(" and "))),
    "an ampersand": lambda text: text.replace(" and ", " & "),
    "a list": lambda text: text.replace(" and ", ", "),
    "together": lambda text: text.replace("stop sign", "stopsign").replace("teddy bear", "teddybear"),
    "there is": lambda text: text.replace("a photo of", "There is"),
    "a request": lambda text: f"Please generate {text}",
    "showing": lambda text: text.replace("a photo of", "a high quality image showing"),
}


def test_there_are_twenty_disguises_and_each_changes_some_prompt():
    assert len(DISGUISES) >= 20
    assert all(any(dress(text) != text for text in SOME) for name, dress in DISGUISES.items() if name != "as it is")


@pytest.mark.parametrize("name", DISGUISES)
def test_no_prompt_passes_in_disguise(name):
    dressed = [DISGUISES[name](text) for text in SOME]
    assert sorted(contaminated(dressed, SOME, ContaminationConfig())) == list(range(len(SOME)))


def test_what_is_about_something_else_passes():
    others = [
        "a bench press competition",
        "two clocks and a dog",
        "a yellow cup and a green bowl",
        "stop signs",
        "a cup and a bowl",
        "<b>a bent</b>",
        "100%25 cotton shirt",
        "a photo of a",
    ]
    assert contaminated(others, SOME, ContaminationConfig()) == {}


@pytest.mark.skipif(not GENEVAL.exists(), reason="GenEval's prompts are not here")
@pytest.mark.parametrize("name", DISGUISES)
def test_none_of_genevals_prompts_passes_in_disguise(name):
    prompts = [json.loads(line)["prompt"] for line in GENEVAL.read_text().splitlines()]
    assert len(prompts) == 553
    found = contaminated([DISGUISES[name](text) for text in prompts], prompts, ContaminationConfig())
    assert len(found) == 553


@pytest.mark.skipif(
    not (GENEVAL.exists() and COCO.exists()), reason="GenEval's prompts or COCO's captions are not here"
)
def test_real_captions_pass_but_for_those_that_say_the_same():
    prompts = [json.loads(line)["prompt"] for line in GENEVAL.read_text().splitlines()]
    with COCO.open(encoding="utf-8", newline="") as file:
        captions = [row[-1] for row in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]
    assert len(captions) > 20_000
    found = contaminated(captions, prompts, ContaminationConfig())
    assert len(found) < len(captions) / 1000
    assert contaminated(captions[:1000], ["the quick brown fox jumps over it"], ContaminationConfig()) == {}


def test_words_are_told_in_every_script():
    assert plain_words("猫咪 and 2 кота") == "猫 咪 and 2 kota"
    assert plain_words("Grey COLOUR") == "gray color"
    assert subject(plain_words("The picture of an old house")) == "old house"
    assert subject(plain_words("a house with a photo of a cat")) == "house with photo of cat"
