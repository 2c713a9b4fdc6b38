"""Batches as codecs leave them are those that are read in 8 bits; their losses are compared in pairs."""

import numpy as np
import pytest
import torch

from lightgen.bench.codecs import bench_codecs, with_int8_text, with_short_std
from tests.lightgen.training.feature_files import write_shards


def test_a_changed_batch_is_the_one_that_is_read_from_shards_in_8_bits(tmp_path) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "short").mkdir()
    plain, *_ = write_shards(tmp_path / "plain", lengths=(9,))
    short, *_ = write_shards(tmp_path / "short", lengths=(9,), short=True)
    rows = np.arange(9), np.zeros(9, int)
    batch, expected = plain.batch(*rows), short.batch(*rows)
    assert torch.equal(with_int8_text(batch).text, expected.text)
    assert not torch.equal(batch.text, expected.text)
    found = with_short_std(batch).std
    assert found is not None
    assert batch.std is not None
    assert torch.allclose(found.float(), batch.std.float(), rtol=0.03)  # the scale is that of the rows at hand
    assert not torch.equal(found, batch.std)


def test_codecs_change_a_loss_far_less_than_other_texts_do(chain) -> None:
    plain, text, std, both, other = bench_codecs(chain.store, str(chain.checkpoint), batches=4, batch_size=8)
    assert (plain.change, plain.error) == (0, 0)
    assert text.change != 0
    assert abs(text.relative) < 1e-3
    assert abs(both.relative) < 1e-3
    assert std.loss == pytest.approx(plain.loss, rel=1e-3)
    # The null control: the loss does feel what texts say.
    assert abs(other.change) > 5 * abs(text.change)
