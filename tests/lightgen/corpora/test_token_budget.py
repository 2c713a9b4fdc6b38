"""The token budget: counted by hand for words, and by a tokenizer of transformers; on the page and in the problems."""

from pathlib import Path

import pytest

from lightgen.corpora.text import TextCorpus
from lightgen.corpora.token_budget import LIMITS, token_budget
from lightgen.corpora.tokenizer import TokenizerConfig, counter
from lightgen.encoders.tiny import WORDS, word_tokenizer
from lightgen.pages.tokens import token_facts
from lightgen.stages.source import SourceConfig, source
from lightgen.storage.store import open_or_create
from lightgen.work import Context

LONG = "word " * 76 + "end, two more. and, last"


def test_clauses_are_lost_whose_last_word_is_not_read() -> None:
    """76 words and one are the first clause; "two more", "and" and "last" lie beyond 77."""
    found = token_budget([LONG, "a cat, a dog"], counter("words"))
    assert [one.limit for one in found] == list(LIMITS)
    assert (found[0].captions, found[0].clauses) == (1 / 2, 3 / 6)
    assert [(one.captions, one.clauses) for one in found[1:]] == [(0, 0)] * 3
    assert str(found[0]) == "50.0% of captions and 50.0% of clauses beyond 77 tokens"


def test_no_captions_are_no_share() -> None:
    assert {(one.captions, one.clauses) for one in token_budget([], counter("words"))} == {(0, 0)}


def test_a_tokenizer_counts_its_marks_too(tmp_path: Path) -> None:
    word_tokenizer(WORDS).save_pretrained(tmp_path)
    count = counter(TokenizerConfig(model=str(tmp_path)))
    text = " ".join([WORDS[0]] * 40)
    starts, marks = count.starts(text)
    assert len(starts) + marks == count(text)
    assert starts == sorted(starts)
    most = 77 - marks
    within, beyond = (token_budget([" ".join([WORDS[0]] * words)], count)[0] for words in (most, most + 1))
    assert (within.captions, beyond.captions, beyond.clauses) == (0, 1, 1)


@pytest.mark.parametrize("local", [False, True])
def test_the_page_and_the_plan_say_what_lies_beyond(tmp_path: Path, local: bool) -> None:
    (tmp_path / "a.txt").write_text(f"{LONG}\na cat, a dog\n{'word ' * 130}\n")
    tokenizer = "words"
    if local:
        word_tokenizer(WORDS).save_pretrained(tmp_path / "tokenizer")
        tokenizer = TokenizerConfig(model=str(tmp_path / "tokenizer"))
    corpora = [TextCorpus(path=str(tmp_path / "a.txt"), source="test")]
    config = SourceConfig(corpora=corpora, tokenizer=tokenizer)
    (told,) = (one for one in config.problems() if one.weight == "remark")
    assert "66.7% of captions and" in told.what
    assert "33.3% of captions and" in told.what.partition("77 tokens; ")[2]
    store = open_or_create(str(tmp_path / "store"))
    facts = token_facts(store.open(source(config, Context(store))), store)
    assert facts["beyond 77 tokens"].startswith("50.00% of captions, ")
    assert facts["beyond 128 tokens"] == "0.00% of captions, 0.0% of clauses"
    assert facts["refused as too long"] == "1"


def test_short_captions_are_not_worth_a_remark(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a cat\n")
    config = SourceConfig(corpora=[TextCorpus(path=str(tmp_path / "a.txt"), source="test")])
    assert list(config.problems()) == []
