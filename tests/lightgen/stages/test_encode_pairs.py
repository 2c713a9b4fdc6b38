"""PAIRS -> PAIR_FEATURES: both sides by the encoders of the checkpoint, once; nothing lost."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lightgen.encoders.restore import load_encoders
from lightgen.errors import ConfigError
from lightgen.generators.restore import checkpoint_config
from lightgen.stages import encode_pairs as stage
from lightgen.stages.encode_pairs import EncodePairsConfig, encode_pairs
from lightgen.stages.pretrain import pretrain
from lightgen.training.data import Winners
from lightgen.training.features_on_disk import open_features
from lightgen.training.loop import LoopConfig
from lightgen.training.texts_on_disk import open_texts
from schemas.ref import ArtifactRef
from tests.lightgen.conftest import Chain, training
from tests.lightgen.sealed import noise, pairs

ROWS, FIRST_VISIT = np.arange(3), np.zeros(3, np.int64)


def encoded(chain: Chain, count: int, broken: int | None = None, **settings) -> tuple[ArtifactRef, ArtifactRef]:
    """Pairs, and their features."""
    made, drawn = pairs(chain.store, count, broken)
    return made, encode_pairs(made, chain.checkpoint, drawn, EncodePairsConfig(**settings), chain.context())


def test_both_sides_take_the_encoders_way(chain: Chain) -> None:
    settings = checkpoint_config(chain.store.open(chain.checkpoint)).encoders
    vae, text = load_encoders(settings, chain.store, "cpu")
    made, ref = encoded(chain, 3)
    version, source = chain.store.open(ref), chain.store.open(made)
    features = open_features(version, open_texts(chain.store.open(chain.words(ref))))
    assert (len(features), features.latent_shape) == (3, (8, 8, 8))
    batch = features.batch(ROWS, FIRST_VISIT)
    assert batch.mean.shape == (3, 2, 8, 8, 8)
    for place, row in enumerate(version.table().to_pylist()):
        assert row["caption"] == source.table().to_pylist()[place]["caption"]
        loser = torch.from_numpy(noise(place)).unsqueeze(0)
        assert torch.equal(batch.mean[place, 1], vae.encode(loser)[0][0].half())
        (words,) = text.encode([row["caption"]])
        assert torch.equal(batch.text[place, : len(words)].float(), words)
    winners = Winners(features).batch(ROWS, FIRST_VISIT)
    assert torch.equal(winners.mean, batch.mean[:, 0])
    assert winners.ids.tolist() == batch.ids.tolist()


def test_pairs_are_encoded_once_and_for_every_student_on_the_same_features(chain: Chain, monkeypatch) -> None:
    made, first = encoded(chain, 3)
    loop = LoopConfig(steps=0, threads=1)
    config = training().model_copy(update={"loop": loop})
    other = pretrain(chain.features, chain.texts, config, replace(chain.context(), seed=3))
    monkeypatch.setattr(stage, "load_vae_of", lambda *_: pytest.fail("the VAE was loaded again"))
    assert encoded(chain, 3, batch=1) == (made, first)
    _, drawn = pairs(chain.store, 3)
    assert encode_pairs(made, other, drawn, EncodePairsConfig(), chain.context()) == first


def test_a_pair_with_a_broken_side_is_rejected_with_its_reason(chain: Chain) -> None:
    made, ref = encoded(chain, 30, broken=4)
    version = chain.store.open(ref)
    assert (version.rows, version.reject_reasons) == (29, {"not_an_image": 1})
    kept = version.table().column("id").to_pylist()
    ids = chain.store.open(made).table().column("id").to_pylist()
    assert [id for id in ids if id not in kept] == [ids[4]]


def test_no_pairs_is_said(chain: Chain) -> None:
    with pytest.raises(ConfigError, match="holds no pairs"):
        encoded(chain, 0)
