"""Text from outside cannot break a message: not its encoding, not the terminal, not its length."""

import json
import pickle
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightgen import errors
from lightgen.errors import LightgenError, escaped

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, LightgenError)]


@pytest.mark.parametrize(
    ("text", "spelled"),
    [
        ("caf\udce9", "caf\\udce9"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("a\0b\r\x9b", "a\\x00b\\r\\x9b"),
        ("gnp\u202e.exe\u2028", "gnp\\u202e.exe\\u2028"),
        ("two\nlines\té 漢 🎨", "two\nlines\té 漢 🎨"),
        (r"C:\temp \d+", r"C:\temp \d+"),
    ],
)
def test_what_a_terminal_or_json_trips_over_is_spelled_out(text, spelled):
    assert escaped(text) == spelled


@given(st.text(st.characters(exclude_categories=()), max_size=300))
def test_any_text_can_be_sent_and_is_escaped_once(text):
    plain = escaped(text, 200)
    assert json.loads(json.dumps(plain, ensure_ascii=False).encode("utf-8")) == plain
    assert {unicodedata.category(character) for character in plain} & {"Cs", "Zl", "Zp"} == set()
    assert not [character for character in plain if unicodedata.category(character) == "Cc" and character not in "\n\t"]
    assert len(plain) <= 200
    assert escaped(plain, 200) == plain


def test_of_a_long_text_both_ends_are_kept():
    shown = escaped("start" + "x" * 10_000 + "end")
    assert shown.startswith("startx")
    assert shown.endswith("xend")
    assert "[... 10,008 characters in all ...]" in shown
    assert len(shown) <= 4000


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_for_the_user_can_be_shown_and_travels_between_processes(kind):
    error = kind("file: caf\udce9\x1b[2J")
    assert str(error) == "file: caf\\udce9\\x1b[2J"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
