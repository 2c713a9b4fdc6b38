"""Plain words by the column against those of each text."""

import string

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from lightgen.decisions import plain_column as module
from lightgen.decisions.plain_column import plain_column
from lightgen.texts import SPELLINGS, plain_words

PRINTABLE = st.text(string.ascii_letters + string.digits + string.punctuation + "  ")
WORDS = st.lists(
    st.sampled_from([*SPELLINGS, "ones", "gre", "GREY", "Twelve", "-", "  ", "a", "é", "&amp;", "<b>", "\x7f", "\n"])
).map(" ".join)
TEXTS = st.lists(st.one_of(PRINTABLE, WORDS, st.text(st.characters(exclude_categories=["Cs"]))), max_size=8)


@settings(max_examples=500)
@given(TEXTS)
def test_a_column_has_the_plain_words_of_its_texts(texts: list[str]) -> None:
    column = pa.array(["before: one é", *texts], pa.large_string())[1:]
    assert plain_column(column).to_pylist() == [plain_words(text) for text in texts]


def test_printable_ascii_does_not_go_one_by_one(monkeypatch) -> None:
    """Or the property above would hold of a column that is read text by text."""
    monkeypatch.setattr(module, "plain_words", None)
    texts = [" Two GREY dogs' colours, 10-12! ", "", "...", "one", "photograph"]
    found = plain_column(pa.array(texts, pa.large_string()))
    assert found.to_pylist() == ["2 gray dogs colours 10 12", "", "", "1", "photo"]
