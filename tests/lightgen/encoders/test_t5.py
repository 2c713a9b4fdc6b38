import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, T5EncoderModel

from lightgen.encoders.t5 import T5Config, T5TextEncoder, buckets
from lightgen.encoders.tiny import tiny_t5
from lightgen.errors import ConfigError, ModelError

CAPTIONS = ["a red circle", "two blue", "the cat and the dog on the red square of a green dog", "a red circle", "cat"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_t5(tmp_path_factory.mktemp("t5"))


def _config(folder: Path, **settings: object) -> T5Config:
    return T5Config.model_validate({"model": str(folder), "dtype": "float32", "storage": "float16", **settings})


def test_equals_transformers_one_caption_at_a_time(folder: Path) -> None:
    tokenizer, model = AutoTokenizer.from_pretrained(folder), T5EncoderModel.from_pretrained(folder).eval()
    got = T5TextEncoder(_config(folder, batch_tokens=40), "cpu").encode(CAPTIONS)
    for caption, vectors in zip(CAPTIONS, got, strict=True):
        with torch.no_grad():
            expected = model(**tokenizer(caption, return_tensors="pt")).last_hidden_state[0]
        assert vectors.shape == expected.shape
        assert torch.allclose(vectors, expected, atol=2e-3), caption


def test_padding_without_its_mask_would_be_seen(folder: Path) -> None:
    """The null control of the test above: the mask is what makes it pass."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), T5EncoderModel.from_pretrained(folder).eval()
    ids = tokenizer("a red circle", return_tensors="pt").input_ids
    with torch.no_grad():
        alone = model(input_ids=ids).last_hidden_state[0]
        padded = model(input_ids=torch.nn.functional.pad(ids, (0, 9))).last_hidden_state[0, : ids.shape[1]]
    assert not torch.allclose(alone, padded, atol=2e-3)


def test_values_are_already_what_is_stored(folder: Path) -> None:
    for storage in ("float16", "bfloat16"):
        vectors = T5TextEncoder(_config(folder, storage=storage), "cpu").encode(["two red"])[0]
        assert torch.equal(vectors, vectors.to(getattr(torch, storage)).float())


def test_long_captions_are_cut_and_keep_their_end_mark(folder: Path) -> None:
    cut = T5TextEncoder(_config(folder, max_tokens=4), "cpu")
    assert cut.encode([CAPTIONS[2]])[0].shape == (4, 24)
    assert cut.tokenizer(CAPTIONS[2], truncation=True, max_length=4).input_ids[-1] == cut.tokenizer.eos_token_id


def test_buckets_hold_like_lengths_and_every_caption_once() -> None:
    lengths = [3, 9, 3, 8, 1, 9, 20]
    batches = buckets(lengths, 18)
    assert sorted(place for batch in batches for place in batch) == list(range(7))
    assert batches == [[6], [1, 5], [3, 0], [2, 4]]
    assert all(len(batch) == 1 or len(batch) * max(lengths[p] for p in batch) <= 18 for batch in batches)


def test_the_identity_follows_the_weights(folder: Path, tmp_path: Path) -> None:
    before = _config(folder).identity()
    assert not {"model", "subfolder", "tokenizer_subfolder", "batch_tokens"} & set(before)
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    assert _config(copy).identity()["weights"] == before["weights"]
    torch.manual_seed(99)
    T5EncoderModel(T5EncoderModel.from_pretrained(folder).config).save_pretrained(copy)
    assert _config(copy).identity()["weights"] != before["weights"]


def test_the_identity_follows_the_tokenizer_and_the_settings(folder: Path, tmp_path: Path) -> None:
    before = _config(folder).identity()
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    words = copy / "tokenizer.json"
    words.write_text(words.read_text().replace('"circle"', '"circus"'))
    assert _config(copy).identity()["weights"] != before["weights"]
    assert _config(folder, max_tokens=5).identity() != before
    assert _config(folder, batch_tokens=5).identity() == before


def test_foreign_weights_are_refused_with_the_way_out(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"RevisionNotPinned.*google/flan-t5-xxl"):
        T5Config().identity()
    with pytest.raises(ConfigError, match="no such folder"):
        T5Config(model=str(tmp_path / "nowhere")).identity()
    broken = Path(shutil.copytree(folder, tmp_path / "broken"))
    (broken / "model.safetensors").write_bytes(b"\xff" * 8 + b"{}")
    with pytest.raises(ModelError, match="not a usable T5"):
        T5TextEncoder(_config(broken), "cpu")


def test_padded_vectors_are_those_of_all_positions_whatever_lies_beside(folder: Path) -> None:
    """What T5 answers at 12 positions where 8 of them are its padding, seen by nobody: as the published code does."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), T5EncoderModel.from_pretrained(folder).eval()
    given = tokenizer(CAPTIONS, padding="max_length", truncation=True, max_length=12, return_tensors="pt")
    with torch.no_grad():
        expected = model(**given).last_hidden_state
    encoder = T5TextEncoder(_config(folder, max_tokens=12, padded=True, batch_tokens=24), "cpu")
    assert encoder.padded
    together, alone = encoder.encode(CAPTIONS), encoder.encode(CAPTIONS[1:2])[0]
    assert torch.allclose(torch.stack(together), expected, atol=2e-3)
    assert together[1].shape == (12, 24)
    assert torch.allclose(alone, together[1], atol=2e-3)
    assert together[1][3:].abs().amax(dim=1).min() > 0.1  # padding is no zeros


def test_padding_enters_the_name_only_where_it_is_kept(folder: Path) -> None:
    plain = _config(folder).identity()
    assert "padded" not in plain
    assert _config(folder, padded=True).identity() == {**plain, "padded": True}
    assert _config(folder, padded=True).flops(3) == _config(folder).flops(128)
