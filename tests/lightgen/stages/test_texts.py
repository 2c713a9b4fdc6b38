"""PROMPTS -> TEXTS: one text a prompt, a caption encoded once, and never again where a store has it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from lightgen.encoders.restore import read_text_encoding
from lightgen.encoders.t5 import T5Config
from lightgen.encoders.tiny import tiny_t5
from lightgen.encoders.words import WordsConfig, WordsEncoder
from lightgen.errors import ConfigError
from lightgen.stages.texts import TextsConfig, texts
from lightgen.storage.feature_codec import text_from_table
from lightgen.storage.pixels import encode_image
from lightgen.storage.quantised import DAMAGE_FILE
from lightgen.storage.store import Store, open_or_create
from lightgen.storage.version import Version
from lightgen.work import Context, RunConfig
from schemas.ref import ArtifactRef
from tests.lightgen.sealed import image, images, kept_of, noise, prompts

CAPTIONS = [f"{colour} {shape}" for colour in ("red", "blue", "green") for shape in ("circle", "square of two", "cat")]
WORDS = TextsConfig(encoder=WordsConfig(dim=6))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_or_create(str(tmp_path / "store"))


def made(store: Store, given: ArtifactRef, config: TextsConfig = WORDS) -> Version:
    return store.open(texts(given, config, Context(store, 0, RunConfig(device="cpu"))))


def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The captions that the encoder is given from here on."""
    given: list[str] = []
    plain = WordsEncoder.encode
    monkeypatch.setattr(WordsEncoder, "encode", lambda self, these: given.extend(these) or plain(self, these))
    return given


def test_every_prompt_has_its_text_shard_by_shard(store: Store) -> None:
    given = prompts(store, CAPTIONS, 2)
    version, encoder = made(store, given), WORDS.encoder.open("cpu")
    assert version.n_shards == 2
    for shard in range(2):
        rows, source = version.table(shard), store.open(given).table(shard)
        assert rows.select(["id", "caption"]).to_pydict() == source.select(["id", "caption"]).to_pydict()
        flat, tokens = text_from_table(rows)
        expected = encoder.encode(rows["caption"].to_pylist())
        assert tokens.tolist() == [len(one) for one in expected]
        assert torch.equal(flat.float(), torch.cat(expected))
    described = read_text_encoding(version)
    assert (described.text_dim, described.text) == (6, WORDS.encoder.identity())


def test_equal_captions_are_encoded_once_and_every_prompt_has_the_text(store: Store, monkeypatch) -> None:
    given = asked(monkeypatch)
    version = made(store, prompts(store, [*CAPTIONS, CAPTIONS[2], CAPTIONS[2]]))
    assert sorted(given) == sorted(CAPTIONS)
    values = version.table()["text"].to_pylist()
    assert values[2] == values[-2] == values[-1]
    assert len(set(values)) == len(CAPTIONS)


def test_a_grown_corpus_encodes_its_new_captions_only(store: Store, monkeypatch) -> None:
    first = made(store, prompts(store, CAPTIONS[:5]))
    given = asked(monkeypatch)
    grown = made(store, prompts(store, [*CAPTIONS[6:], *CAPTIONS[:6]]))  # under other ids, in another order
    assert sorted(given) == sorted(CAPTIONS[5:])
    assert grown.manifest.shards[0].rows_reused == 5
    alone = dict(zip(first.table()["caption"].to_pylist(), first.table()["text"].to_pylist(), strict=True))
    for row in grown.table().to_pylist():
        assert alone.get(row["caption"], row["text"]) == row["text"]
    flat, _ = text_from_table(grown.table())
    assert torch.equal(flat.float(), torch.cat(WORDS.encoder.open("cpu").encode(grown.table()["caption"].to_pylist())))


def test_a_shard_with_the_same_prompts_is_linked(store: Store, monkeypatch) -> None:
    rows = [image(f"{place}", encode_image(noise(place), "png"), CAPTIONS[place % 4]) for place in range(8)]
    drawn = images(store, rows, [rows[:4], rows[4:]])
    ids = store.open(drawn).table()["id"].to_pylist()
    whole = made(store, kept_of(store, drawn, ids))
    given = asked(monkeypatch)
    fewer = made(store, kept_of(store, drawn, ids[:-1]))
    assert given == []
    entries = [[e.sha256 for e in r.files if e.role == "table"] for v in (whole, fewer) for r in v.manifest.shards]
    assert entries[0] == entries[2]
    assert entries[1] != entries[3]


def test_pictures_of_one_prompt_have_one_text_wherever_they_lie(store: Store) -> None:
    rows = [image(f"{place}", encode_image(noise(place), "png"), "a cat", prompt_id=f"{place // 2:032x}")
            for place in range(7)]  # fmt: skip
    drawn = images(store, rows, [rows[:3], rows[3:]])
    version = made(store, kept_of(store, drawn, store.open(drawn).table()["id"].to_pylist()))
    assert sorted(version.table()["id"].to_pylist()) == [f"{prompt:032x}" for prompt in range(4)]
    assert [version.table(shard).num_rows for shard in range(2)] == [2, 2]


def test_a_text_that_is_not_finite_is_refused_with_its_reason(store: Store, monkeypatch) -> None:
    plain = WordsEncoder.encode
    wild = {CAPTIONS[1]: float("nan"), CAPTIONS[4]: 1e9}  # which float16 has not
    monkeypatch.setattr(
        WordsEncoder, "encode", lambda self, these: [plain(self, [t])[0] * wild.get(t, 1) for t in these]
    )
    version = made(store, prompts(store, CAPTIONS, 2), WORDS.model_copy(update={"max_reject_fraction": 1.0}))
    assert version.reject_reasons == {"feature_nonfinite": 2}
    assert sorted(version.table()["caption"].to_pylist()) == sorted(set(CAPTIONS) - set(wild))
    assert set(version.rejects()["id"].to_pylist()) == {f"{place:032x}" for place in (1, 4)}


def test_texts_in_8_bits_are_near_and_what_that_costs_is_sealed_beside_them(store: Store) -> None:
    given, wide = prompts(store, CAPTIONS, 2), TextsConfig(encoder=WordsConfig(dim=64))
    short = wide.model_copy(update={"codec": "int8"})
    plain, version = made(store, given, wide), made(store, given, short)
    assert version.ref.version != plain.ref.version
    (wanted, counts), (found, same) = text_from_table(plain.table()), text_from_table(version.table())
    assert np.array_equal(counts, same)
    wrong = float((wanted.double() - found.double()).norm() / wanted.double().norm())
    told = json.loads(version.file(DAMAGE_FILE).read_bytes())
    assert 0 < wrong < 0.01
    assert told["relative_l2"] == pytest.approx(wrong, rel=0.5)
    assert told["cosine"]["0.0"] > 0.9999
    assert 128 * len(version.table()["text"][0].as_py()) == 66 * len(plain.table()["text"][0].as_py())
    assert "codec" not in WORDS.content(), "texts of before keep their names"


def test_texts_that_8_bits_would_harm_too_much_are_refused(store: Store) -> None:
    strict = WORDS.model_copy(update={"codec": "int8", "max_error": 0.001})
    with pytest.raises(ConfigError, match=r"texts would be stored 0\.\d\d% wrong .* take codec: plain"):
        made(store, prompts(store, CAPTIONS), strict)


def test_a_pretrained_encoder(store: Store, tmp_path: Path) -> None:
    config = TextsConfig(encoder=T5Config(model=str(tiny_t5(tmp_path / "t5")), dtype="float32"))
    version = made(store, prompts(store, CAPTIONS), config)
    flat, tokens = text_from_table(version.table())
    assert flat.dtype == torch.bfloat16
    captions = version.table()["caption"].to_pylist()
    assert torch.allclose(flat.float(), torch.cat(config.encoder.open("cpu").encode(captions)), atol=2e-2)
    assert tokens.tolist() == [len(caption.split()) + 1 for caption in captions]
    assert np.array_equal(tokens, version.table()["text_tokens"].to_numpy())
