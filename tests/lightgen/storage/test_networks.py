"""What a folder of weights lacks is refused; the libraries would make it up at random and go on."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from lightgen.corpora.tokenizer import TokenizerConfig, counter
from lightgen.encoders.diffusers_vae import DiffusersVaeConfig, load_autoencoder
from lightgen.encoders.sentence import SentenceConfig
from lightgen.encoders.t5 import T5Config
from lightgen.encoders.tiny import WORDS, tiny_bert, tiny_t5, tiny_vae
from lightgen.errors import ModelError
from lightgen.scorers.embedding import EmbeddingConfig, EmbeddingScorer
from lightgen.scorers.tiny import tiny_clip
from lightgen.storage.weights import Weights

Tensors = dict[str, torch.Tensor]


def sentences(folder: Path) -> Any:
    return SentenceConfig(model=str(folder)).open("cpu")


def t5(folder: Path) -> Any:
    return T5Config(model=str(folder)).open("cpu")


def vae(folder: Path) -> Any:
    return load_autoencoder(DiffusersVaeConfig(model=str(folder)))


def pictures(folder: Path) -> Any:
    return EmbeddingScorer(EmbeddingConfig(weights=Weights(model=str(folder))), "cpu").model


def changed(folder: Path, change: Callable[[Tensors], Tensors]) -> None:
    file = next(folder.rglob("*.safetensors"))
    tensors = change({name: tensor.clone() for name, tensor in load_file(file).items()})
    save_file(tensors, file, {"format": "pt"})


def renamed(tensors: Tensors) -> Tensors:
    return {f"other.{name}": tensor for name, tensor in tensors.items()}


def without_last(tensors: Tensors) -> Tensors:
    return {name: tensors[name] for name in sorted(tensors)[:-1]}


@pytest.mark.parametrize("change", [renamed, without_last])
@pytest.mark.parametrize(
    ("make", "load"), [(tiny_bert, sentences), (tiny_t5, t5), (tiny_vae, vae), (tiny_clip, pictures)]
)
def test_weights_that_are_missing_are_refused(tmp_path: Path, make: Any, load: Any, change: Any) -> None:
    folder = tmp_path / "model"
    make(folder)
    load(folder)
    spare = (lambda found: {k: v for k, v in found.items() if "pooler" not in k}) if make is tiny_bert else dict
    changed(folder, lambda found: change(spare(found)))
    with pytest.raises(
        ModelError, match=r"weights of \w+ are in none of its files, the first .*; fetch .*model.* again"
    ):
        load(folder)


def test_weights_that_nobody_asks_for_may_be_missing(tmp_path: Path) -> None:
    folder = tiny_bert(tmp_path / "model")
    whole = sentences(folder).encode(["a red cat"])
    changed(folder, lambda found: {name: one for name, one in found.items() if not name.startswith("pooler.")})
    assert (sentences(folder).encode(["a red cat"]) == whole).all()


@pytest.mark.parametrize(("make", "load"), [(tiny_bert, sentences), (tiny_t5, t5)])
def test_a_tokenizer_that_is_missing_or_of_another_model_is_refused(tmp_path: Path, make: Any, load: Any) -> None:
    folder, other = make(tmp_path / "model"), tiny_bert(tmp_path / "other", words=f"{WORDS} more words than it knows")
    shutil.copy(other / "tokenizer.json", folder / "tokenizer.json")
    with pytest.raises(ModelError, match="are not of one model"):
        load(folder)
    for file in folder.glob("*token*"):
        file.unlink()
    with pytest.raises(ModelError, match=r"holds no words of a tokenizer"):
        load(folder)


def test_a_tokenizer_without_words_is_refused_where_captions_are_counted(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    with pytest.raises(ModelError, match="holds no words of a tokenizer"):
        counter(TokenizerConfig(model=str(tmp_path)))


@pytest.mark.parametrize("number", [float("nan"), 0.0])
def test_vectors_that_are_none_are_refused_with_the_caption(tmp_path: Path, number: float) -> None:
    folder = tiny_bert(tmp_path / "model")
    changed(folder, lambda found: {name: torch.full_like(one, number) for name, one in found.items()})
    with pytest.raises(ModelError, match=r"2 of 2 captions no vector but NaN or zeros, the first 'a red cat'"):
        sentences(folder).encode(["a red cat", "blue"])


@pytest.mark.parametrize("make", [tiny_t5, tiny_clip])
def test_a_model_of_something_else_is_no_model_of_sentences(tmp_path: Path, make: Any) -> None:
    make(tmp_path / "model")
    with pytest.raises(ModelError, match=r"(is no|not a usable) model of sentences"):
        sentences(tmp_path / "model")
