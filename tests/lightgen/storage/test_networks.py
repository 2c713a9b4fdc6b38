"""What a folder of weights lacks is refused; the libraries would make it up at random and go on."""

import json
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from lightgen.config import problems_of
from lightgen.corpora.tokenizer import TokenizerConfig, counter
from lightgen.encoders.diffusers_vae import DiffusersVaeConfig, load_autoencoder
from lightgen.encoders.sentence import SentenceConfig
from lightgen.encoders.t5 import T5Config
from lightgen.encoders.tiny import WORDS, tiny_bert, tiny_t5, tiny_vae
from lightgen.errors import ModelError
from lightgen.generators.diffusers import DiffusersConfig
from lightgen.generators.flux import FluxConfig
from lightgen.generators.tiny_flux import tiny_flux
from lightgen.generators.tiny_pipelines import tiny_pipeline
from lightgen.scorers.embedding import PREPROCESSOR, EmbeddingConfig, EmbeddingScorer
from lightgen.scorers.mask2former import Mask2FormerConfig
from lightgen.scorers.tiny import tiny_clip, tiny_segmenter
from lightgen.storage.weights import Weights
from lightgen.vlm.qwen import TransformersVlmConfig
from lightgen.vlm.tiny import tiny_vlm

Tensors = dict[str, torch.Tensor]
SD3 = partial(DiffusersConfig, steps=2, guidance=1.5)


def sentences(folder: Path) -> Any:
    return SentenceConfig(model=str(folder))


def t5(folder: Path) -> Any:
    return T5Config(model=str(folder))


def vae(folder: Path) -> Any:
    return DiffusersVaeConfig(model=str(folder), subfolder="vae")


def pictures(folder: Path) -> Any:
    return EmbeddingConfig(weights=Weights(model=str(folder)))


def projected(folder: Path) -> Any:
    return EmbeddingConfig(weights=Weights(model=str(folder)), pool="projected")


def load(config: Any) -> Any:
    """What a stage does with a model first of all."""
    if isinstance(config, DiffusersVaeConfig):
        return load_autoencoder(config, "cpu")
    return EmbeddingScorer(config, "cpu").model if isinstance(config, EmbeddingConfig) else config.open("cpu")


def refused(config: Any, match: str) -> None:
    """By a stage, and by `plan` in the same words."""
    with pytest.raises(ModelError, match=match) as told:
        load(config)
    assert [problem.what for problem in problems_of(config)] == [str(told.value)]


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
    ("make", "kind"), [(tiny_bert, sentences), (tiny_t5, t5), (tiny_vae, vae), (tiny_clip, pictures)]
)
def test_weights_that_are_missing_are_refused(tmp_path: Path, make: Any, kind: Any, change: Any) -> None:
    folder = tmp_path / "model"
    make(folder)
    load(kind(folder))
    assert list(problems_of(kind(folder))) == []
    spare = (lambda found: {k: v for k, v in found.items() if "pooler" not in k}) if make is tiny_bert else dict
    changed(folder, lambda found: change(spare(found)))
    refused(kind(folder), r"weights of \w+ are in none of its files, the first .*; fetch .*model.* again")


@pytest.mark.parametrize(
    ("make", "kind", "part"),
    [
        (tiny_flux, FluxConfig, "transformer"),
        (tiny_flux, FluxConfig, "text_encoder_2"),
        (partial(tiny_pipeline, name="StableDiffusion3Pipeline"), SD3, "vae"),
        (partial(tiny_pipeline, name="StableDiffusion3Pipeline"), SD3, "text_encoder_3"),
        (tiny_vlm, TransformersVlmConfig, ""),
    ],
    ids=["flux transformer", "flux text", "sd3 vae", "sd3 text", "qwen"],
)
def test_plan_knows_what_large_models_lack(tmp_path: Path, make: Any, kind: Any, part: str) -> None:
    config = kind(model=str(make(tmp_path / "model")))
    assert list(problems_of(config)) == []
    changed(tmp_path / "model" / part, without_last)
    (found,) = problems_of(config)
    assert (found.place, found.where, found.weight) == ("here", "model", "stops")
    assert re.search(rf"{part}.*weights of \w+ are in none of its files", found.what)


@pytest.mark.parametrize(("make", "where"), [(tiny_segmenter, "segmenter"), (tiny_clip, "colors")])
def test_plan_knows_what_the_networks_of_geneval_lack(tmp_path: Path, make: Any, where: str) -> None:
    tiny_segmenter(tmp_path / "segmenter")
    tiny_clip(tmp_path / "colors")
    config = Mask2FormerConfig(**{name: Weights(model=str(tmp_path / name)) for name in ("segmenter", "colors")})
    assert list(problems_of(config)) == []
    changed(tmp_path / where, without_last)
    (found,) = problems_of(config)
    assert (found.where, "are in none of its files" in found.what) == (where + ".model", True)


def test_plan_knows_that_a_network_has_no_such_output_and_no_way_to_prepare_pictures(tmp_path: Path) -> None:
    clip, other = tmp_path / "clip", tiny_bert(tmp_path / "other")
    tiny_clip(clip)
    shutil.copy(clip / "processor_config.json", other)
    projected = {
        folder: EmbeddingConfig(weights=Weights(model=str(folder)), pool="projected") for folder in (clip, other)
    }
    assert list(problems_of(projected[clip])) == []
    refused(projected[other], "has no projection; take pooled, first or mean")
    (clip / "processor_config.json").unlink()
    (found,) = problems_of(projected[clip])
    assert f"no usable {PREPROCESSOR}" in found.what


ODD = {
    "config.json": ["[]", "3", '{"model_type": "t5", "architectures": ["T5EncoderModel"], "num_layers": "x"}'],
    "model.safetensors": ["", "x"],
    "model.safetensors.index.json": ["{", "[]", "{}", '{"weight_map": 3}'],
    "tokenizer.json": ["{", "[]", "{}"],
    "tokenizer_config.json": ["[]", "3"],
}


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in ODD.items() for text in texts])
def test_files_that_say_what_they_should_not_are_refused_by_plan(tmp_path: Path, name: str, text: str) -> None:
    folder = tiny_t5(tmp_path / "model")
    (folder / name).write_text(text)
    (problem,) = problems_of(t5(folder))
    assert str(folder) in problem.what


@pytest.mark.parametrize("text", ["3", "[]", "{", "{}"])
def test_settings_that_are_none_leave_sizes_unknown(tmp_path: Path, text: str) -> None:
    """What `plan` asks of a model beside its problems must not end it."""
    tiny_t5(tmp_path / "t5")
    tiny_vae(tmp_path / "model")
    for folder in (tmp_path / "t5", tmp_path / "model" / "vae"):
        (folder / "config.json").write_text(text)
    assert t5(tmp_path / "t5").width is None
    assert vae(tmp_path / "model").shape is None


def test_weights_that_nobody_asks_for_may_be_missing(tmp_path: Path) -> None:
    folder = tiny_bert(tmp_path / "model")
    whole = load(sentences(folder)).encode(["a red cat"])
    changed(folder, lambda found: {name: one for name, one in found.items() if not name.startswith("pooler.")})
    assert (load(sentences(folder)).encode(["a red cat"]) == whole).all()


@pytest.mark.parametrize(("make", "kind"), [(tiny_bert, sentences), (tiny_t5, t5)])
def test_a_tokenizer_that_is_missing_or_of_another_model_is_refused(tmp_path: Path, make: Any, kind: Any) -> None:
    folder, other = make(tmp_path / "model"), tiny_bert(tmp_path / "other", words=f"{WORDS} more words than it knows")
    shutil.copy(other / "tokenizer.json", folder / "tokenizer.json")
    refused(kind(folder), "are not of one model")
    for file in folder.glob("*token*"):
        file.unlink()
    refused(kind(folder), "holds no words of a tokenizer")


def test_a_tokenizer_without_words_is_refused_where_captions_are_counted(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    with pytest.raises(ModelError, match="holds no words of a tokenizer"):
        counter(TokenizerConfig(model=str(tmp_path)))


@pytest.mark.parametrize("number", [float("nan"), 0.0])
def test_vectors_that_are_none_are_refused_with_the_caption(tmp_path: Path, number: float) -> None:
    folder = tiny_bert(tmp_path / "model")
    changed(folder, lambda found: {name: torch.full_like(one, number) for name, one in found.items()})
    with pytest.raises(ModelError, match=r"2 of 2 captions no vector but NaN or zeros, the first 'a red cat'"):
        load(sentences(folder)).encode(["a red cat", "blue"])


@pytest.mark.parametrize("make", [tiny_t5, tiny_clip])
def test_a_model_of_something_else_is_no_model_of_sentences(tmp_path: Path, make: Any) -> None:
    make(tmp_path / "model")
    refused(sentences(tmp_path / "model"), r"(is no|not a usable) model of sentences")
