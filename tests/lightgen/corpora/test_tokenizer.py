"""Tokenizers: they count as the encoder would, and are named by what they are, never by where they lie."""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pytest

from lightgen.corpora.tokenizer import TokenizerConfig, counter
from lightgen.errors import ConfigError, ModelError


def saved(folder: Path, *words: str) -> TokenizerConfig:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(
        models.WordLevel({word: place for place, word in enumerate(["[UNK]", *words])}, unk_token="[UNK]")
    )
    inner.pre_tokenizer = pre_tokenizers.Whitespace()  # pyright: ignore[reportAttributeAccessIssue]
    PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="[UNK]").save_pretrained(folder)
    return TokenizerConfig(model=str(folder))


def test_tokens_of_a_transformers_tokenizer(tmp_path: Path) -> None:
    # Whitespace() splits at punctuation, the words of `words` do not.
    assert counter(saved(tmp_path / "tokenizer", "a", "cat"))("a cat, a dog") == 5
    assert counter("words")("a cat, a dog") == 4
    nested = saved(tmp_path / "flux" / "tokenizer_2", "a", "cat")
    assert nested.model == str(tmp_path / "flux" / "tokenizer_2")
    inside = TokenizerConfig(model=str(tmp_path / "flux"), subfolder="tokenizer_2")
    assert counter(inside)("a cat, a dog") == 5


def test_many_texts_are_counted_as_one_is(tmp_path: Path) -> None:
    """Also where the file of a tokenizer says that it cuts and pads."""
    config = saved(tmp_path / "tokenizer", "a", "cat")
    path = tmp_path / "tokenizer" / "tokenizer.json"
    cuts = {"truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}}
    path.write_text(json.dumps(json.loads(path.read_text()) | cuts))
    texts = ["a cat, a dog", "a", " ".join(["a cat"] * 40)]
    for count in (counter(config), counter("words")):
        found = count.all(pa.array(texts, pa.large_string()))
        assert found.tolist() == [count(text) for text in texts]
    assert counter(config).all(pa.array(texts, pa.large_string())).tolist() == [5, 1, 80]


def test_a_local_tokenizer_is_named_by_all_its_files(tmp_path: Path) -> None:
    first = saved(tmp_path / "first", "a", "cat").content()
    assert set(first) == {"weights"}
    shutil.move(tmp_path / "first", tmp_path / "moved")
    assert TokenizerConfig(model=str(tmp_path / "moved")).content() == first
    assert saved(tmp_path / "other", "a", "dog").content() != first
    (tmp_path / "moved" / "special_tokens_map.json").write_text("{}")
    assert TokenizerConfig(model=str(tmp_path / "moved")).content() != first


def test_a_tokenizer_of_the_hub_is_pinned(tmp_path: Path) -> None:
    pinned = TokenizerConfig(model="owner/name", revision="0" * 40)
    assert pinned.content()["weights"]["revision"] == "0" * 40
    for revision in (None, "main"):
        unpinned = TokenizerConfig(model="owner/name", revision=revision)
        for use in (unpinned.content, lambda config=unpinned: counter(config)):
            with pytest.raises(ConfigError, match="RevisionNotPinned"):
                use()
    with pytest.raises(ConfigError, match="no such folder"):
        counter(TokenizerConfig(model=str(tmp_path / "none")))


def test_a_tokenizer_of_bert_may_be_its_words_alone(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "##s"]))
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    config = TokenizerConfig(model=str(tmp_path))
    assert list(config.problems()) == []
    assert counter(config)("a cats") == 2 + 3  # marks of beginning and end


def test_a_folder_without_a_tokenizer_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be used"):
        counter(TokenizerConfig(model=str(tmp_path)))
