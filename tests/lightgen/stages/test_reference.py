"""CHECKPOINT + PAIR_FEATURES -> REFERENCE: the same answers however many workers ask, and in whatever batches."""

import shutil
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlparse

import numpy as np
import pytest

from lightgen.stages.reference import ReferenceConfig, reference
from lightgen.storage.shards import ShardOutput
from lightgen.storage.store import Store, open_store
from lightgen.work import Context, RunConfig
from schemas.ref import ArtifactRef
from tests.lightgen.conftest import Chain
from tests.lightgen.sealed import seal

CONFIG = ReferenceConfig(draws=3, noise_copies=2, batch_size=4)


@pytest.fixture
def apart(chain: Chain, encoded: ArtifactRef) -> ArtifactRef:
    """The pairs in four shards, one of them empty."""
    table = chain.store.open(encoded).table()
    shards = [table.slice(0, 1), table.slice(1, 0), table.slice(1, 2), table.slice(3)]
    given = [ShardOutput(shard, shard.num_rows, table.schema) for shard in shards]
    return seal(chain.store, "pair_features", given, chain.store.open(encoded).parents, stage="encode_pairs")


def _errors(store: Store, ref: ArtifactRef) -> np.ndarray:
    table = store.open(ref).table().sort_by([("pair_id", "ascending"), ("draw", "ascending")])
    return np.stack([table[name].to_numpy() for name in ("winner_error", "loser_error")])


@pytest.mark.parametrize("workers", [2, pytest.param(4, marks=pytest.mark.long)])
@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=pytest.mark.long)])
def test_several_workers_ask_what_one_asks(
    chain: Chain, apart: ArtifactRef, tmp_path: Path, workers: int, precision: str
) -> None:
    config, words = CONFIG.model_copy(update={"precision": precision}), chain.words(apart)
    shutil.copytree(unquote(urlparse(chain.store.files.uri).path), tmp_path / "store")
    copied = open_store(str(tmp_path / "store"))
    there = Context(copied, 1, RunConfig(engine="processes", workers=workers, device="cpu"))
    asked = reference(chain.checkpoint, apart, words, config, chain.context())
    assert reference(chain.checkpoint, apart, words, config, there).fingerprint == asked.fingerprint


def test_batches_and_shards_move_the_errors_by_rounding_only(
    chain: Chain, encoded: ArtifactRef, apart: ArtifactRef
) -> None:
    whole = reference(chain.checkpoint, encoded, chain.words(encoded), CONFIG, chain.context())
    found = reference(chain.checkpoint, apart, chain.words(apart), CONFIG, chain.context())
    np.testing.assert_allclose(_errors(chain.store, found), _errors(chain.store, whole), rtol=1e-5)
    other = reference(chain.checkpoint, encoded, chain.words(encoded), CONFIG, replace(chain.context(), seed=2))
    assert np.abs(_errors(chain.store, other) / _errors(chain.store, whole) - 1).max() > 1e-2, "the null control"
