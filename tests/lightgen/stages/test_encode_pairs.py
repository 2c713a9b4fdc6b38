"""PAIRS -> PAIR_FEATURES: both sides by the encoders of the checkpoint's features, once; nothing lost."""

import numpy as np
import pytest
import torch

from lightgen.encoders.restore import load_encoders
from lightgen.errors import ConfigError
from lightgen.stages import encode_pairs as stage
from lightgen.stages.encode_pairs import encode_pairs
from lightgen.training.data import Winners
from lightgen.training.features_on_disk import open_features
from tests.lightgen.stages.test_align import noise_image, sealed_pairs

ROWS, FIRST_VISIT = np.arange(3), np.zeros(3, np.int64)


def test_both_sides_take_the_encoders_way(chain) -> None:
    vae, text = load_encoders(chain.store.open(chain.features), chain.store, "cpu")
    pairs = chain.store.open(sealed_pairs(chain, 3))
    version = chain.store.open(encode_pairs(pairs.ref, chain.features, chain.store))
    features = open_features(version)
    assert (len(features), features.latent_shape) == (3, (8, 8, 8))
    batch = features.batch(ROWS, FIRST_VISIT)
    assert batch.mean.shape == (3, 2, 8, 8, 8)
    rows = version.table().to_pylist()
    for place, row in enumerate(rows):
        assert row["caption"] == pairs.table().to_pylist()[place]["caption"]
        loser = torch.from_numpy(noise_image(place)).unsqueeze(0)
        assert torch.equal(batch.mean[place, 1], vae.encode(loser)[0][0].half())
        (words,) = text.encode([row["caption"]])
        assert torch.equal(batch.text[place, : len(words)].float(), words)
    winners = Winners(features).batch(ROWS, FIRST_VISIT)
    assert torch.equal(winners.mean, batch.mean[:, 0])
    assert winners.ids.tolist() == batch.ids.tolist()


def test_pairs_are_encoded_once(chain, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = sealed_pairs(chain, 3)
    first = encode_pairs(pairs, chain.features, chain.store)
    monkeypatch.setattr(stage, "load_encoders", lambda *_: pytest.fail("encoders were loaded again"))
    assert encode_pairs(pairs, chain.features, chain.store) == first


def test_a_pair_with_a_broken_side_is_rejected_with_its_reason(chain) -> None:
    pairs = sealed_pairs(chain, 30, broken=4)
    version = chain.store.open(encode_pairs(pairs, chain.features, chain.store))
    assert (version.rows, sum(version.reject_reasons.values())) == (29, 1)
    kept = version.table().column("id").to_pylist()
    ids = chain.store.open(pairs).table().column("id").to_pylist()
    assert [id for id in ids if id not in kept] == [ids[4]]


def test_no_pairs_is_said(chain) -> None:
    with pytest.raises(ConfigError, match="holds no pairs"):
        encode_pairs(sealed_pairs(chain, 0), chain.features, chain.store)
